"""``afp query``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from afp.fingerprint import Match, Track
    from afp.library.querying import QueryResult

MAX_NAME_WIDTH, TRACK_WIDTH = 40, 48  # columns of a terminal


@click.command(
    cls=Command,
    examples=(
        "afp query clip.wav",
        "ffmpeg -v error -i talk.mp4 -f wav - | afp query - --json | jq .matches",
        "afp query --all radio-show.mp3",
        "afp query -- *.wav    # also when a name begins with -",
    ),
    exit_statuses={
        0: "A match.",
        1: "No match.",
        3: "A clip could not be read.",
        4: "The store cannot be used.",
        130: "Interrupted.",
    },
)
@click.argument("clips", nargs=-1, type=options.PathType(allow_dash=True), metavar="CLIP...")
@options.store
@options.backend
@options.files_from
@click.option(
    "--all",
    "timeline",
    is_flag=True,
    help="List every match in a long recording, in order of time.",
)
@click.option(
    "-n",
    "limit",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Most tracks to print for a clip; with --all, for each stretch of it.",
)
@click.option(
    "--max-p",
    type=options.Probability(),
    metavar="P",
    help="Largest probability that a match is false.  [default: 0.001]",
)
@options.json
def command(
    *,
    clips: tuple[str, ...],
    store_path: Path,
    backend: str | None,
    files_from: str | None,
    null: bool,
    timeline: bool,
    limit: int,
    max_p: float | None,
    as_json: bool,
) -> None:
    """Identify clips: which track, and where in it. "-" reads audio from standard input.

    Prints a table to a terminal; elsewhere lines of tab-separated fields: query, track path,
    query start and end, track start and end (in seconds), score, p_false, backend. p_false is
    the probability that a clip of something that is not in the store would score this high.

    """
    everything = [*clips, *options.listed_paths(files_from, null=null)]
    if not everything and files_from is None:
        raise UsageError("nothing to identify", hint="afp query clip.wav")
    if everything.count("-") + (files_from == "-") > 1:
        raise UsageError("standard input can be read only once")
    from afp.library.decoding import DecodingProcess
    from afp.library.querying import DEFAULT_MAX_P, Searcher

    clips_in = {"-": options.standard_input()} if "-" in everything else {}
    names = [Path(clip).name for clip in everything]
    table = _table(names) if terminal.is_interactive() and not as_json else None
    any_match = any_error = False
    with (
        DecodingProcess() as decoding,
        Searcher.open(store_path, backend, decode=decoding.decode) as searcher,
    ):
        if not searcher.n_tracks:
            terminal.warn("the store is empty; add music to it: afp index PATH")
        for name, index in searcher.indexes.items():
            if searcher.n_tracks and not index.n_tracks:
                terminal.warn(f"no track has fingerprints of {name}; make them: afp index PATH")
        for clip in everything:
            result = searcher.query(
                clips_in.get(clip, clip),
                limit=limit,
                max_p=DEFAULT_MAX_P if max_p is None else max_p,
                timeline=timeline,
            )
            any_match |= bool(result.matches)
            any_error |= result.error is not None
            if as_json:
                terminal.json_line(_as_json(result))
            elif table is not None:
                table.draw(_rows(result))
            else:
                _print_lines(result)
            _tell_trouble(result, quiet=as_json or table is not None)
    if any_error:
        raise SystemExit(ExitCode.INPUT)
    if not any_match:
        raise SystemExit(ExitCode.NO_MATCH)


def _as_json(result: "QueryResult") -> terminal.JsonObject:
    return {
        "query": result.query,
        "seconds": None if result.seconds is None else _rounded(result.seconds, 4),
        "backend": result.backend,
        "error": result.error,
        "partial": result.partial,
        "heard": result.is_heard,
        "matches": [
            {
                "rank": rank,
                "track": {
                    "id": match.track.id,
                    "path": match.track.path,
                    "title": match.track.title,
                    "artist": match.track.artist,
                    "seconds": _rounded(match.track.duration_seconds, 4),
                },
                **{
                    name: _rounded(getattr(match, name), 4)
                    for name in ("query_start", "query_end", "track_start", "track_end")
                },
                "score": _rounded(match.score, 3),
                "p_false": float(f"{match.p_false:.3g}"),
                "speed": _rounded(match.speed, 5),
                "pitch": _rounded(match.pitch, 5),
                "details": {name: float(f"{value:.5g}") for name, value in match.details.items()},
            }
            for rank, match in enumerate(result.matches, 1)
        ],
    }


def _rounded(value: float, n_decimals: int) -> float:
    return round(float(value), n_decimals) + 0.0  # no -0.0


def _print_lines(result: "QueryResult") -> None:
    for match in result.matches:
        times = (match.query_start, match.query_end, match.track_start, match.track_end)
        terminal.tsv_line(
            (
                result.query,
                match.track.path,
                *(f"{round(seconds, 3) + 0.0:.3f}" for seconds in times),
                f"{match.score:g}",
                f"{match.p_false:.3g}",
                match.backend,
            )
        )


def _tell_trouble(result: "QueryResult", *, quiet: bool) -> None:
    name = "standard input" if result.query == "-" else result.query
    if result.error:
        terminal.warn(result.error)
    elif result.partial:
        terminal.warn(f"{name}: only in part: {result.partial}")
    if not (quiet or result.error or result.matches):
        why = "" if result.is_heard else f": too short, or too quiet, for {result.backend}"
        terminal.note(f"{name}: no match{why}")


def _table(names: list[str]) -> terminal.Table:
    columns = ("query", "track", "in the query", "in the track", "p_false")
    widths = {}
    if len(names) > 1:  # they are drawn one by one, and yet below each other
        widths = {
            "query": min(max(map(len, names)), MAX_NAME_WIDTH),
            "track": TRACK_WIDTH,
            **dict.fromkeys(columns[2:4], len("0:00.0–0:00.0")),
        }
    # On a narrow terminal the times in the track are the last to go, but for what they belong to.
    dropped = ("in the track",) if len(names) > 1 else ("query", "in the track")
    return terminal.Table(
        columns,
        widths=widths,
        right=("p_false",),
        whole=columns[2:],
        dropped=("p_false", "in the query", *dropped),
    )


def _rows(result: "QueryResult") -> list[tuple[str, ...]]:
    name = Path(result.query).name
    if not (result.matches or result.error):
        return [(name, "no match", "", "", "")]
    return [(name, *_row(match)) for match in result.matches]


def _row(match: "Match") -> tuple[str, ...]:
    name = track_name(match.track)
    if abs(match.speed - 1) >= 0.002:
        name += f" (speed × {match.speed:.3f})"
    return (
        name,
        f"{terminal.clock(match.query_start)}–{terminal.clock(match.query_end)}",
        f"{terminal.clock(match.track_start)}–{terminal.clock(match.track_end)}",
        terminal.probability(match.p_false),
    )


def track_name(track: "Track") -> str:
    """Name a track by its tags, else by its file."""
    if track.title:
        return f"{track.artist} – {track.title}" if track.artist else track.title
    return Path(track.path).name
