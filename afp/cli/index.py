"""``afp index``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from afp.library.report import FileOutcome, IndexReport, Planned


@click.command(
    cls=Command,
    examples=(
        "afp index ~/Music",
        "find /nas -name '*.flac' -print0 | afp index -0 --files-from -",
    ),
    exit_statuses={
        0: "All is stored.",
        3: "Some files failed; the rest is stored.",
        4: "The store cannot be used.",
        130: "Interrupted; what was finished is stored.",
    },
)
@click.argument("paths", nargs=-1, type=options.PathType(), metavar="PATH...")
@options.store
@options.backends("Backend; may repeat.  [default: those the store has, else shazam]")
@options.parameters
@options.files_from
@options.jobs
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Try files again that failed, or of which only a part was decoded, before.",
)
@options.wait
@options.json
def command(
    *,
    paths: tuple[str, ...],
    store_path: Path,
    backends: tuple[str, ...],
    parameters: tuple[str, ...],
    files_from: str | None,
    null: bool,
    jobs: int | None,
    retry_failed: bool,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Add music to the store: files, and folders with all that is in them.

    Files that the store knows and that have not changed are skipped, so the same command brings
    a store up to date. Files that cannot be decoded are named, remembered and skipped next time.
    Ctrl-C stores what is finished; the next run goes on from there.

    """
    # The workers are the parallelism; threads of a BLAS beside them only get in the way.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    from afp.cli.progress import IndexProgress
    from afp.library import FileOutcome, Interruption, index

    everything = [*paths, *options.listed_paths(files_from, null=null)]
    if not everything and files_from is None:
        raise UsageError("nothing to index", hint="afp index ~/Music")

    interactive = terminal.is_interactive(sys.stderr)
    with Interruption() as interruption, IndexProgress(shown=interactive) as progress:

        def observe(event: "Planned | FileOutcome") -> None:
            progress.update(event)
            if not isinstance(event, FileOutcome):
                return
            if as_json:
                terminal.json_line(_as_json(event))
            if not interactive:
                _tell_trouble(event)

        report = index(
            store_path,
            everything,
            backends=backends,
            parameters=dict(map(options.parsed, parameters)),
            n_workers=jobs,
            retry_failed=retry_failed,
            wait_seconds=wait_seconds,
            observer=observe,
            interruption=interruption,
        )
    if interactive:
        for outcome in (*report.partial, *report.failures):
            _tell_trouble(outcome)
    _tell(report, store_path)
    if report.interrupted:
        raise SystemExit(128 + report.interrupted)
    if report.failures:
        raise SystemExit(ExitCode.INPUT)


def _as_json(outcome: "FileOutcome") -> terminal.JsonObject:
    track = outcome.track
    return {
        "path": outcome.file.path,
        "status": outcome.status.value,
        "id": track and track.id,
        "seconds": track and round(track.duration_seconds, 4),
        "partial": track and track.partial,
        "error": outcome.error,
    }


def _tell_trouble(outcome: "FileOutcome") -> None:
    from afp.library.report import Status

    if outcome.status is Status.FAILED:
        terminal.warn(f"failed: {outcome.file.path}: {outcome.error}")
    elif outcome.track is not None and outcome.track.partial:
        terminal.warn(f"only in part: {outcome.file.path}: {outcome.track.partial}")


def _tell(report: "IndexReport", store_path: Path) -> None:
    counts = [f"{n:,} {status}" for status, n in report.counts.items() if n]
    text = ", ".join(counts) or ("no file done" if report.interrupted else "no audio files found")
    if report.audio_seconds:
        speed = report.audio_seconds / report.wall_seconds
        text += (
            f"; {terminal.duration(report.audio_seconds)} of audio"
            f" in {terminal.duration(report.wall_seconds)} ({speed:,.0f} × realtime)"
        )
    terminal.note(f"{text}; store: {store_path}")
    if report.failed_before:
        files = terminal.count(report.failed_before, "skipped file")
        terminal.note(f"{files} failed before (afp ls --failed); try again with --retry-failed")
    if report.interrupted:
        when = "while looking for files"
        if report.n_left is not None:
            when = f"with {terminal.count(report.n_left, 'file')} to go"
        terminal.note(f"interrupted {when}; the same command goes on from here")
