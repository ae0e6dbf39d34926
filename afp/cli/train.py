"""``afp train``."""

import math
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from afp.training.loop import Progress


MODEL = "model.onnx"
SHIPPED = "shipped"
DISTRACTORS = 12_000
"""Segments of training tracks among which validation looks."""


@click.command(
    cls=Command,
    examples=(
        "afp train ~/Music --noise ~/noise --ir ~/rooms --out run1",
        "afp train ~/Music --noise ~/noise --out run1 --set steps=20000 --set pairs=128",
        "afp train ~/Music --out run2 --config run2.toml --minutes 90",
        "afp train ~/Music --from shipped --out run3 --set steps=2000 --set learning_rate=5e-4",
    ),
    exit_statuses={
        0: "Done; the model is in the folder.",
        2: "A setting is wrong, or torch is not installed.",
        3: "There is no music that can be used.",
        130: "Interrupted; the same command goes on from there.",
    },
)
@click.argument("music", nargs=-1, required=True, type=options.PathType(), metavar="MUSIC...")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=options.PathType(path_type=Path),
    help="Keep the run in DIR; one that is there already goes on.",
)
@options.folder("noise", "Recordings of noise; may repeat.", multiple=True)
@options.folder("ir", "Impulse responses of rooms; may repeat.", multiple=True)
@options.folder(
    "validation-music",
    "Music to validate with, of other artists.  [default: a tenth of MUSIC]",
    multiple=True,
)
@options.folder("validation-noise", "Noise to validate with.", multiple=True)
@options.folder("validation-ir", "Rooms to validate with.", multiple=True)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=options.PathType(path_type=Path),
    help="Settings, as TOML.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting; may repeat."
)
@click.option(
    "--from",
    "start",
    type=options.PathType(),
    metavar="MODEL",
    help="Begin with the weights of a model that afp train has written, or of the one that is "
    f"{SHIPPED!r}, not with random ones.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Stop after so long; the same command goes on from there.",
)
@click.option(
    "--validation-steps",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Validate every N steps.",
)
@click.option(
    "--validation-queries",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="N",
    help="Clips to look up in each condition.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that prepare batches.  [default: one a core but one, at most 16]",
)
def command(
    *,
    music: tuple[str, ...],
    out: Path,
    noise: tuple[str, ...],
    ir: tuple[str, ...],
    validation_music: tuple[str, ...],
    validation_noise: tuple[str, ...],
    validation_ir: tuple[str, ...],
    config_path: Path | None,
    settings: tuple[str, ...],
    start: str | None,
    minutes: float | None,
    validation_steps: int,
    validation_queries: int,
    jobs: int | None,
) -> None:
    """Train a neural fingerprinter on one's own music.

    Pairs of a place in a track as it is and as a distant microphone hears it teach a small net
    to tell places apart by embeddings. Every so often it is validated by looking up clips of
    music that it has not been trained on. Ctrl-C keeps what is done.

    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    for needed in ("torch", "onnx"):
        if find_spec(needed) is None:
            raise UsageError(f"training needs {needed}", hint="pip install 'afp[train]'")
    from afp.backends import neural
    from afp.library import Interruption
    from afp.training.checkpoint import Checkpoint
    from afp.training.config import Config
    from afp.training.export import export
    from afp.training.loop import BEST, LAST, Run, Schedule
    from afp.training.model import n_operations, n_parameters
    from afp.training.sources import Sources

    before: dict[str, Any] = {}
    if (out / LAST).exists():
        before = Checkpoint.load(out / LAST).config.as_dict()
    config = Config.read(config_path, settings, before=before)
    for name, value in config.as_dict().items():
        if before and value != before[name]:
            terminal.note(f"{name} was {before[name]}, and is {value} from here on")
    run = Run(config, out)
    weights = None
    if start is not None:
        weights = run.exported(neural.SHIPPED if start == SHIPPED else Path(start))
    out.mkdir(parents=True, exist_ok=True)
    parameters, operations = n_parameters(run.net), n_operations(run.net)
    terminal.note(
        f"{parameters / 1e6:.2f} M parameters, {operations / 1e6:.1f} MMAC a segment, "
        f"on {run.device}, from step {run.step:,} of {config.steps:,}"
    )
    sources = Sources(
        music=music,
        noise=noise,
        rooms=ir,
        validation_music=validation_music,
        validation_noise=validation_noise,
        validation_rooms=validation_ir,
    )
    with _Display(run.step) as display:
        views, validation = sources.prepared(
            config,
            out / "data",
            n_queries=validation_queries,
            n_distractors=DISTRACTORS,
            tell=display.decoding,
        )
        if weights is not None:
            run.start_from(weights, views.batch(0))
        with Interruption() as interruption:
            run.train(
                views,
                validation,
                Schedule(
                    validation_steps=validation_steps,
                    stop_after_seconds=minutes * 60 if minutes else math.inf,
                ),
                n_workers=min((os.cpu_count() or 2) - 1, 16) if jobs is None else jobs,
                observer=display.update,
                is_interrupted=lambda: interruption.signal is not None,
            )
    chosen = BEST if (out / BEST).exists() else LAST
    finished = run.step >= config.steps
    if finished:
        terminal.note("whitening the embeddings, and sorting them into cells for large stores")
    export(Checkpoint.load(out / chosen), out / MODEL, views.music if finished else None)
    terminal.note(f"the best net so far: {out / MODEL}")
    if not finished:
        terminal.note(f"{config.steps - run.step:,} steps to go: the same command goes on")
    if interruption.signal is not None:
        raise SystemExit(128 + interruption.signal)


class _Display:
    """Shows how training goes: a bar on a terminal, else lines."""

    def __init__(self, step: int) -> None:
        self._step, self._told = step, ""
        self._bar: Bar | None = None

    def __enter__(self) -> "_Display":
        if terminal.is_interactive(sys.stderr):
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=terminal.console(sys.stderr),
                transient=True,
            )
            self._task = self._bar.add_task("decoding", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def decoding(self, what: str, done: int, total: int) -> None:
        """Tell which recordings are being decoded."""
        if self._bar is not None:
            self._bar.update(
                self._task, description=f"decoding {what}", completed=done, total=total
            )
        elif what != self._told:
            self._told = what
            terminal.note(f"decoding {what}: {terminal.count(total, 'file')}")

    def update(self, progress: "Progress") -> None:
        """Tell a step."""
        n_steps = max(progress.step - self._step, 1)
        self._step = progress.step
        each, waited = progress.seconds / n_steps, progress.waited_seconds / n_steps
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=f"loss {progress.loss:.3f}, {each:.2f} s a step",
                completed=progress.step,
                total=progress.steps,
            )
        else:
            terminal.note(
                f"step {progress.step:,} of {progress.steps:,}: loss {progress.loss:.4f}, "
                f"rate {progress.rate:.2e}, {each:.3f} s a step, {waited:.3f} of it waiting"
            )
        if progress.scores:
            terminal.note(*_validation_lines(progress.step, progress.scores))


def _validation_lines(step: int, scores: Mapping[str, float]) -> list[str]:
    """Lay the scores of a validation out, a line each condition."""
    conditions: dict[str, dict[str, list[str]]] = {}
    for name, share in scores.items():  # the track at a length, and then the place
        condition, length, _ = name.rsplit(" ", 2)
        cells = conditions.setdefault(condition, {})
        cells.setdefault(length, []).append(f"{100 * share:5.1f}")
    lengths = next(iter(conditions.values()))
    width = max(map(len, conditions))
    head = "  ".join(f"{length:>11}" for length in lengths)
    return [
        f"step {step:,}: clips whose track is found, and whose place is, in %",
        f"  {'':{width}}  {head}",
        *(
            f"  {condition:{width}}  " + "  ".join(map(" ".join, cells.values()))
            for condition, cells in conditions.items()
        ),
    ]
