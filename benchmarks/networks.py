"""The net beside the paper's, and what each ingredient of its training and its search buys.

    python benchmarks/networks.py --folder run                  # as `afp train` divides the corpus
    python benchmarks/networks.py --folder run --steps 2000 --pairs 256
    python benchmarks/networks.py --folder run --only ours --only chang

Every net is trained by the loop of `afp train`, with its recipe (but the learning rate of the
widest), losses, moving average and validation, on the same batches for the same number of steps;
what is left out of the recipe in turn has the same number of steps too. A few hundred steps are a
beginning: they tell what learns faster, not where it ends; `--steps` is there for those who have
the time. The folder keeps every run, and the same command goes on from there; a run that
`--minutes` cuts short is scored as far as it came.

The networks of Chang et al. 2021 (`benchmarks/chang.py`) hear our segments of 28 frames and 128
bands instead of their 32 and 256, which takes 0.47 of their operations; all else is theirs.

What the query's side and the storage cost or buy is measured on a model that is trained in full
(``--model``, or the one that is shipped).
"""

import argparse
import dataclasses
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chang import CHANNELS as CHANG_CHANNELS
from chang import Chang
from corpus import DEFAULT_AUDIO, Corpus
from network_costs import costs_of
from output import RESULTS, note, print_section, script, write_json
from query_side import query_side, samples_of
from threads import bind_to_one
from torch import nn

from afp.backends import neural
from afp.bench.run import machine
from afp.bench.table import Section
from afp.features import log_mel
from afp.training.config import Config
from afp.training.loop import Progress, Run, Schedule
from afp.training.model import Net
from afp.training.pcm import Pcm
from afp.training.sources import Sources
from afp.training.validation import LENGTHS, Validation
from afp.training.views import Batch, Views

RATE = 1e-3  # the highest learning rate: the paper's net at a quarter of its width learns best so
WIDE_RATE = 3e-4  # at its whole width the loss rises again at more
WARM_UP = 0.15  # of the steps
EXTRACTED_SECONDS = 120

NOT_OF_BATCHES = {
    *("channels", "blocks", "stem_channels", "dimensions", "short_dimensions"),
    *("loss", "temperature", "margin", "memory", "steps", "learning_rate", "warm_up_steps"),
    *("weight_decay", "gradient_norm", "average_decay"),
}


def chang(divisor: int) -> Callable[[Config], nn.Module]:
    """Return what makes the paper's network so many times narrower, for our segments."""

    def make(config: Config) -> nn.Module:
        return Chang(
            bands=log_mel.N_BANDS,
            frames=log_mel.N_FRAMES,
            channels=[channels // divisor for channels in CHANG_CHANNELS],
            dimensions=config.dimensions,
        )

    return make


@dataclass(frozen=True, slots=True)
class Variant:
    """What is trained: a net, and the settings that differ from the recipe."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[Config], nn.Module] = Net.configured


NETWORKS = (
    Variant("ours"),
    Variant("chang, quarter width", make=chang(4)),
    Variant("chang", {"learning_rate": WIDE_RATE}, make=chang(1)),
)
ABLATIONS = (
    Variant("no rooms", {"room_share": 0.0}),
    Variant("no noise", {"noise_share": 0.0}),
    Variant("no speed changes", {"speed_share": 0.0}),
    Variant("no devices", {"device_share": 0.0}),
    Variant("no cut-outs", {"cut_share": 0.0}),
    Variant("no loudspeakers", {"loudspeaker_share": 0.0}),
    Variant("no mixing", {"mix_share": 0.0}),
    Variant("no keys", {"key_share": 0.0}),
    Variant("no offset", {"offset_seconds": 0.0}),
    Variant("no memory", {"memory": 0}),
    Variant("triplet loss", {"loss": "triplet", "memory": 0}),
    Variant("a quarter of the pairs", {"pairs": 0.25}),
    Variant("four times the pairs", {"pairs": 4.0}),
)


@dataclass(frozen=True, slots=True)
class Kept(Views):
    """Views that keep their batches in files, for the next net that is trained on them."""

    folder: Path = Path()

    def batch(self, step: int) -> Batch:
        """Make the batch of a step, or read it."""
        path = self.folder / f"{step}.npz"
        if path.exists():
            with np.load(path) as kept:
                return Batch(**kept)
        batch = Views.batch(self, step)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **batch._asdict())
        partial.replace(path)
        return batch


def kept(views: Views, config: Config, folder: Path) -> Kept:
    """Return views of another configuration, kept by what decides over the batches."""
    decisive = {k: v for k, v in config.as_dict().items() if k not in NOT_OF_BATCHES}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
    into = folder / digest
    into.mkdir(parents=True, exist_ok=True)
    return Kept(config, views.music, views.noise, views.rooms, views.devices, into)


def configured(variant: Variant, *, steps: int, pairs: int) -> Config:
    """Return the recipe, at so many steps, with what is different."""
    settings = dict(variant.settings)
    pairs = round(pairs * settings.pop("pairs", 1))
    recipe = Config(
        steps=steps, pairs=pairs, learning_rate=RATE, warm_up_steps=round(WARM_UP * steps)
    )
    return dataclasses.replace(recipe, **settings)


def trained(
    variant: Variant,
    config: Config,
    views: Views,
    validation: Validation,
    folder: Path,
    *,
    n_workers: int,
    seconds: float,
) -> Run:
    """Train a variant, or go on with it, and score it."""
    into = folder / "-".join(variant.name.replace(",", "").split())
    into.mkdir(parents=True, exist_ok=True)
    run = Run(config, into, variant.make)
    if run.step < config.steps and seconds > 0:

        def tell(progress: Progress) -> None:
            note(f"{variant.name}: step {progress.step}, loss {progress.loss:.3f}")

        schedule = Schedule(validation_steps=config.steps, stop_after_seconds=seconds)
        run.train(views, validation, schedule, n_workers=n_workers, observer=tell)
    if run.step and (not run.validations or run.validations[-1]["step"] != run.step):
        run.validate(validation)
        run.save("checkpoint.pt")
    return run


def figures_of(variant: Variant, run: Run) -> dict[str, Any]:
    """Return what a run came to."""
    scores = {name: value for name, value in run.validations[-1].items() if name != "step"}
    return {
        "name": variant.name,
        "settings": dict(variant.settings),
        "steps": run.step,
        "of_steps": run.config.steps,
        "pairs": run.config.pairs,
        "train_wall_seconds": run.seconds,
        "mean_track": statistics.mean(v for name, v in scores.items() if name.endswith("track")),
        "scores": scores,
    }


def top1(scores: Mapping[str, float], conditions: Sequence[str]) -> list[str]:
    """Return the columns of a table: track top-1 at each length."""
    return [
        " ".join(f"{100 * scores[f'{name} {length}s track']:.0f}" for length in LENGTHS)
        for name in conditions
    ]


def conditions_of(scores: Mapping[str, float]) -> list[str]:
    """List the conditions that scores are of."""
    suffix = f" {LENGTHS[0]}s track"
    return [name.removesuffix(suffix) for name in scores if name.endswith(suffix)]


def sections(results: Mapping[str, Any]) -> list[Section]:
    """Lay the results out."""
    found: list[Section] = []
    runs = results["networks"] + results["ablations"]
    if runs:
        conditions = conditions_of(runs[0]["scores"])
        lengths = ", ".join(map(str, LENGTHS))
        if results["networks"]:
            costs = ("parameters", "MMAC", "own MMAC", "s a step", "× realtime")
            rows = [
                (
                    each["name"],
                    f"{each['parameters'] / 1e6:.2f} M",
                    f"{each['operations'] / 1e6:.1f}",
                    f"{each['own_operations'] / 1e6:.1f}" if "own_operations" in each else "",
                    f"{each['step_cpu_seconds']:.2f}",
                    f"{each['realtime']:.0f}",
                )
                for each in results["networks"]
            ]
            found.append(Section("What the nets cost (one core)", ("net", *costs), rows, costs))
        rows = [
            (
                each["name"],
                f"{each['steps']}",
                f"{each['pairs']}",
                f"{each['train_wall_seconds']:.0f}",
                f"{100 * each['mean_track']:.1f}",
                *top1(each["scores"], conditions),
            )
            for each in runs
        ]
        columns = ("steps", "pairs", "s", "mean", *conditions)
        title = f"Track top-1 in %, clips of {lengths} s"
        found.append(Section(title, ("variant", *columns), rows, columns))
    if queries := results["query"]:
        conditions = conditions_of(queries[0]["scores"])
        rows = [(each["name"], *top1(each["scores"], conditions)) for each in queries]
        title = "What search buys, on the model trained in full: the same"
        found.append(Section(title, ("variant", *conditions), rows, tuple(conditions)))
    return found


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind in ("music", "noise", "ir"):
        parser.add_argument(f"--{kind}", type=Path, default=DEFAULT_AUDIO / kind / "dev")
        parser.add_argument(f"--validation-{kind}", type=Path, help="[one file in ten]")
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--steps", type=int, default=200, help="[%(default)s]")
    parser.add_argument("--pairs", type=int, default=64, help="in a batch [%(default)s]")
    parser.add_argument("--queries", type=int, default=300, help="a condition [%(default)s]")
    parser.add_argument("--distractors", type=int, default=6000, help="segments [%(default)s]")
    parser.add_argument("--only", action="append", help="a variant by name, or query; may repeat")
    parser.add_argument("--minutes", type=float, default=np.inf, help="for all trainings")
    parser.add_argument("--model", default="", help="as `afp train` writes it [the shipped one]")
    parser.add_argument("-j", "--jobs", type=int, default=0, help="processes for batches [0]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    return parser.parse_args()


def prepared(arguments: argparse.Namespace, recipe: Config) -> tuple[Views, Validation, Pcm]:
    """Decode the recordings; the last is the music to validate with."""

    def given(path: Path | None) -> tuple[str, ...]:
        return (str(path),) if path else ()

    sources = Sources(
        music=given(arguments.music),
        noise=given(arguments.noise),
        rooms=given(arguments.ir),
        validation_music=given(arguments.validation_music),
        validation_noise=given(arguments.validation_noise),
        validation_rooms=given(arguments.validation_ir),
    )
    data = arguments.folder / "data"
    views, validation = sources.prepared(
        recipe,
        data,
        n_queries=arguments.queries,
        n_distractors=arguments.distractors,
        tell=lambda what, done, total: note(f"decoding {what}") if done == total else None,
    )
    about = json.loads((data / "validation-music.json").read_text())
    music = Pcm(data / "validation-music.pcm", tuple(about["names"]), tuple(about["bounds"]))
    return views, validation, music


def main() -> None:
    bind_to_one()
    arguments = parsed()
    started = time.monotonic()
    recipe = configured(NETWORKS[0], steps=arguments.steps, pairs=arguments.pairs)
    views, validation, music = prepared(arguments, recipe)
    samples = np.resize(samples_of(music, 0), EXTRACTED_SECONDS * log_mel.SAMPLE_RATE)
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "command": (
            f"python benchmarks/networks.py --steps {arguments.steps} --pairs {arguments.pairs} "
            f"--queries {arguments.queries} --distractors {arguments.distractors}"
        ),
        "machine": machine() | {"torch": torch.__version__},
        "recipe": recipe.as_dict(),
        "validation_tracks": len(music),
        "validation_references": len(validation.references),
        "queries": arguments.queries,
        "networks": [],
        "ablations": [],
        "query": [],
    }

    def write() -> None:
        results["load_average"] = os.getloadavg()
        write_json(arguments.out / "networks.json", results)

    def wanted(name: str) -> bool:
        return not arguments.only or name in arguments.only

    for variant in filter(lambda variant: wanted(variant.name), NETWORKS + ABLATIONS):
        config = configured(variant, steps=arguments.steps, pairs=arguments.pairs)
        theirs = kept(views, config, arguments.folder / "batches")
        seconds = 60 * arguments.minutes - (time.monotonic() - started)
        run = trained(
            variant,
            config,
            theirs,
            validation,
            arguments.folder,
            n_workers=arguments.jobs,
            seconds=seconds,
        )
        if not run.step:
            note(f"{variant.name}: no time left")
        elif variant in NETWORKS:
            costs = costs_of(run, theirs.batch(0), samples)
            results["networks"].append(figures_of(variant, run) | costs)
        else:
            results["ablations"].append(figures_of(variant, run))
        write()
    if wanted("query"):
        backend = neural.Backend(model=arguments.model)
        corpus = Corpus(
            arguments.music,
            noise=arguments.validation_noise or arguments.noise,
            rooms=arguments.validation_ir or arguments.ir,
        )
        with tempfile.TemporaryDirectory(prefix="afp-networks-") as name:
            results["query"] = query_side(
                backend,
                music,
                views.music,
                corpus,
                Path(name),
                n_queries=arguments.queries,
                n_distractors=arguments.distractors,
            )
        results["weights"] = backend.weights
        write()
    for section in sections(results):
        print_section(section)


if __name__ == "__main__":
    script(main)
