"""``afp bench``."""

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afp.cli import options, scores, terminal
from afp.cli.command import Command
from afp.errors import InputError, UsageError

if TYPE_CHECKING:
    from afp.backends import Parameter
    from afp.bench.run import Outcome
    from afp.distort import Distortion

DEFAULT_PRESET = "quick"
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 600.0


class _Bench(Command):
    """Hands ``afp bench score …`` over to `score`."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args and args[0] == "score":
            return score.make_context(f"{info_name} score", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


class _Lengths(click.ParamType):  # type: ignore[type-arg]
    """Numbers of seconds, separated by commas."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(float(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1,2,5", param, ctx)
        if not all(SHORTEST_SECONDS <= number <= LONGEST_SECONDS for number in numbers):
            self.fail(
                f"{value}: each must be {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} seconds",
                param,
                ctx,
            )
        return tuple(sorted({round(number, 4) for number in numbers}))


@click.command(
    cls=_Bench,
    examples=(
        "afp bench ~/Music",
        "afp bench ~/Music --distort noise:snr=-5,0,5,10 --noise ~/noise --seconds 3,5,10",
        "afp bench ~/Music --preset chang --out results --report report.html",
        "afp bench ~/Music --distort room+noise:snr=0..10+mp3:kbps=32 --distort speed:percent=-4,4",
        "afp bench score results/rows.jsonl --max-p 1e-4",
    ),
    exit_statuses={
        0: "Done.",
        2: "The command line is wrong, such as an unknown distortion.",
        3: "No music, noise or rows that can be used.",
        4: "The store cannot be used.",
        130: "Interrupted; with --out the same command goes on from there.",
    },
)
@click.argument("music", nargs=-1, type=options.PathType(), metavar="[MUSIC]...")
@options.store
@click.option(
    "--distort",
    "distortions",
    multiple=True,
    metavar="NAME[:KEY=VALUES]",
    help="What to do to a clip; may repeat. Several values make several rows of the table, "
    "A..B draws anew for each clip, + chains. --list names them all.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help=f"A grid that has a name; see --list.  [default: {DEFAULT_PRESET}]",
)
@click.option(
    "--seconds",
    "lengths",
    type=_Lengths(),
    metavar="S,S…",
    help="Lengths of the clips.  [default: the preset's, else 5]",
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Clips of indexed music for each row and length.",
)
@options.backends(
    "Backend, or fused for several as one; may repeat.  [default: those of the store, else shazam]"
)
@options.parameters
@click.option(
    "--absent",
    type=options.Probability(largest=0.9),
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="Share of the music to keep out of the store, to count false answers.",
)
@options.folder(
    "distractors", "Music to index too, that no clip is taken from; may repeat.", multiple=True
)
@options.folder("noise", "Recordings of noise.")
@options.folder("ir", "Impulse responses of rooms.")
@options.folder("speech", "Recordings of speech.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.folder("out", "Keep the rows in DIR; an interrupted run goes on from there.")
@click.option(
    "--use-store",
    is_flag=True,
    help="Query the store as it is; MUSIC that it does not hold is what it must not answer.",
)
@options.jobs
@scores.shown
@click.option(
    "--list", "as_list", is_flag=True, is_eager=True, help="List distortions and presets."
)
def command(
    *,
    music: tuple[str, ...],
    store_path: Path,
    distortions: tuple[str, ...],
    preset: str | None,
    lengths: tuple[float, ...] | None,
    queries: int,
    backends: tuple[str, ...],
    parameters: tuple[str, ...],
    absent: float,
    distractors: tuple[str, ...],
    noise: Path | None,
    ir: Path | None,
    speech: Path | None,
    seed: int,
    out: Path | None,
    use_store: bool,
    jobs: int | None,
    max_p: float | None,
    report: Path | None,
    plot: Path | None,
    as_json: bool,
    as_list: bool,
) -> None:
    """Measure how robust the backends are, on one's own music.

    A part of MUSIC is indexed into a temporary store, the rest kept out of it. Clips of both are
    distorted and looked up as `afp query` does. Without MUSIC, the files of the store are taken.
    `afp bench score ROWS...` judges the rows of earlier runs again.

    """
    # The workers are the parallelism; threads of a BLAS beside them only get in the way.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if as_list:
        _print_list()
        return
    from afp.library.fusion import FUSED

    if parameters and (len(set(backends)) > 1 or FUSED in backends):
        raise UsageError("-p is for a single backend", hint="run one after the other, with -b")
    if parameters and use_store:
        raise UsageError(
            "-p is for a store that is made; --use-store takes it as it is",
            hint="leave one of them out",
        )
    if distractors and use_store:
        raise UsageError(
            "--distractors are for a store that is made; --use-store takes it as it is",
            hint="leave one of them out",
        )
    scores.require_means(report, plot)
    from afp.bench.grid import Grid
    from afp.bench.run import run
    from afp.cli.progress import BenchProgress
    from afp.library import Interruption
    from afp.library.choice import DEFAULT_BACKEND

    chosen, seconds = _grid(distortions, preset, lengths)
    of_store = _store_backends(store_path) if use_store or not music else {}
    names = backends or tuple(of_store) or (DEFAULT_BACKEND,)
    given = dict(map(options.parsed, parameters))
    files = _files(music, store_path, use_store=use_store)
    grid = Grid(
        music=files,
        distortions=chosen,
        seconds=seconds,
        queries=queries,
        backends={name: {} if use_store else {**of_store.get(name, {}), **given} for name in names},
        parts={name: of_store.get(name, {}) for name in _fused(names)},
        absent=absent,
        noise=noise,
        rooms=ir,
        speech=speech,
        store=store_path if use_store else None,
        seed=seed,
        distractors=tuple(sorted(set(_walked(distractors)) - set(files))) if distractors else (),
    )
    _tell_substitutes(chosen, noise, ir)
    with Interruption() as interruption, BenchProgress() as progress:
        outcome = run(
            grid,
            out=out,
            n_workers=jobs,
            command=shlex.join(["afp", *sys.argv[1:]]),
            observer=progress.update,
            interruption=interruption,
        )
    _finish(outcome, out, max_p=max_p, report=report, plot=plot, as_json=as_json)


@click.command(
    cls=Command,
    examples=(
        "afp bench score results/rows.jsonl",
        "afp bench score dense/rows.jsonl sparse/rows.jsonl --report both.html",
    ),
    exit_statuses={0: "Done.", 3: "The rows cannot be read."},
)
@click.argument(
    "rows", nargs=-1, required=True, type=options.PathType(path_type=Path), metavar="ROWS..."
)
@scores.shown
def score(
    *,
    rows: tuple[Path, ...],
    max_p: float | None,
    report: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Judge the rows of earlier runs: one query a line, as --out has them.

    Rows of several runs on the same music, of several backends or of one with several
    parameters, are judged together. A folder that --out has made stands for the rows in it.

    """
    from afp.bench.journal import ROWS
    from afp.bench.rows import join, read_rows
    from afp.bench.scoring import score as scores_of

    scores.require_means(report, plot)
    about, joined = join([read_rows(path / ROWS if path.is_dir() else path) for path in rows])
    scores.show(scores_of(about, joined, max_p=max_p), report=report, plot=plot, as_json=as_json)


def _grid(
    texts: Sequence[str], preset: str | None, lengths: tuple[float, ...] | None
) -> "tuple[tuple[Distortion, ...], tuple[float, ...]]":
    """Read the distortions, and the lengths that go with them."""
    from afp.bench.presets import PRESETS
    from afp.distort import parse

    if preset is None and not texts:
        preset = DEFAULT_PRESET
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", hint=f"there are {', '.join(PRESETS)}")
    chosen: dict[str, Distortion] = {}
    for text in PRESETS[preset].distortions if preset else ():
        for distortion in parse(text):
            if reason := distortion.unavailable():
                terminal.warn(f"{distortion.condition} is left out: {reason}")
            else:
                chosen[distortion.condition] = distortion
    for text in texts:
        for distortion in parse(text):
            if reason := distortion.unavailable():
                raise UsageError(
                    f"{distortion.condition}: {reason}", hint="leave it out; afp doctor tells more"
                )
            chosen[distortion.condition] = distortion
    default = PRESETS[preset].seconds if preset else (5.0,)
    return tuple(chosen.values()), lengths or default


def _store_backends(store_path: Path) -> "dict[str, dict[str, Parameter]]":
    """Tell the backends of a store, with the parameters that it was made with."""
    from afp.store import Store

    with Store.open(store_path) as store:
        return {name: dict(record.parameters) for name, record in sorted(store.backends().items())}


def _fused(names: Sequence[str]) -> list[str]:
    """Tell what ``fused`` joins: of those that are named two or more, else all that there are."""
    from afp.library.choice import fusible
    from afp.library.fusion import FUSED

    if FUSED not in names:
        return []
    every = fusible()
    named = [name for name in every if name in names]
    return named if len(named) > 1 else every


def _walked(folders: Sequence[str]) -> tuple[Path, ...]:
    """Find the audio files in folders."""
    from afp.audio import walk

    unreadable: list[InputError] = []
    found = [
        Path(file.path).absolute()
        for file in walk(folders, on_error=lambda path, error: unreadable.append(error))
    ]
    for error in unreadable:
        terminal.warn(str(error))
    if not found:
        raise InputError(f"no audio in {', '.join(folders)}", hint="name a folder with music files")
    return tuple(sorted(set(found)))


def _files(music: Sequence[str], store_path: Path, *, use_store: bool) -> tuple[Path, ...]:
    """Find the music: in the folders that are named, else what the store was made from."""
    if music:
        return _walked(music)
    if use_store:
        return ()
    from afp.store import Store

    with Store.open(store_path) as store, store.snapshot() as snapshot:
        return tuple(sorted(path for path in map(Path, snapshot.paths()) if path.exists()))


def _tell_substitutes(
    distortions: "Iterable[Distortion]", noise: Path | None, ir: Path | None
) -> None:
    families = {step.family.name for distortion in distortions for step in distortion.steps}
    if "noise" in families and noise is None:
        terminal.note("noise: pink noise, since no recordings are named (--noise DIR)")
    if "room" in families and ir is None:
        terminal.note("room: synthetic rooms, since no impulse responses are named (--ir DIR)")


def _finish(
    outcome: "Outcome",
    out: Path | None,
    *,
    max_p: float | None,
    report: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    if outcome.about is not None and outcome.rows:
        from afp.bench.scoring import score as scores_of

        judged = scores_of(outcome.about, outcome.rows, max_p=max_p)
        scores.show(judged, report=report, plot=plot, as_json=as_json)
    if outcome.interrupted and outcome.n_left != 0:
        left = "before the first query" if outcome.n_left is None else f"{outcome.n_left:,} to go"
        after = "the same command goes on from here" if out else "with --out DIR it could go on"
        terminal.note(f"interrupted, {left}; {after}")
        raise SystemExit(128 + outcome.interrupted)
    if out is not None:
        terminal.note(f"rows: {out / 'rows.jsonl'}")


def _print_list() -> None:
    from afp.bench.presets import PRESETS
    from afp.distort import CHAINS, FAMILIES

    rows = [
        (
            family.name,
            ",".join(f"{s.name}={s.default}" for s in family.severities),
            ", ".join(f"{s.name} in {s.unit}" for s in family.severities),
            family.help,
        )
        for family in FAMILIES.values()
    ]
    rows += [(name, "", "", text) for name, text in CHAINS.items()]
    rows += [
        (f"--preset {name}", "", "", f"{preset.help}: {' '.join(preset.distortions)}")
        for name, preset in PRESETS.items()
    ]
    if terminal.is_interactive():
        columns = ("name", "default", "severity", "what")
        terminal.Table(columns, whole=("name",)).draw(rows)
    else:
        for row in rows:
            terminal.tsv_line(row)
