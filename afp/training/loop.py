"""The training loop."""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from afp.errors import UsageError
from afp.fingerprint import F32
from afp.training.batches import Batches
from afp.training.checkpoint import Checkpoint, commit
from afp.training.config import Config
from afp.training.losses import Memory, loss_of
from afp.training.model import Net
from afp.training.start import Exported, exported, start_from
from afp.training.validation import Validation, score
from afp.training.views import Batch, Views

LAST, BEST = "checkpoint.pt", "best.pt"
LEAST_RATE = 0.01  # of the learning rate, at the end of the schedule
EMBEDDED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Progress:
    """What an observer is told after a step.

    Attributes
    ----------
    step, steps : int
        Done, and in the schedule.
    loss : float
        Mean since the last time.
    rate : float
        The learning rate.
    seconds, waited_seconds : float
        Since the last time: in all, and of it for batches.
    scores : dict of float or None
        Of a validation, when there was one.
    """

    step: int
    steps: int
    loss: float
    rate: float
    seconds: float
    waited_seconds: float
    scores: dict[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often a run does what is not training.

    Attributes
    ----------
    validation_steps, report_steps : int
    checkpoint_seconds : float
    stop_after_seconds : float
        End then, with a checkpoint; infinite to go on to the last step.
    """

    validation_steps: int = 1000
    report_steps: int = 20
    checkpoint_seconds: float = 120.0
    stop_after_seconds: float = math.inf


@dataclass(slots=True)
class Run:
    """A net in training.

    Parameters
    ----------
    config : Config
    out : Path
        Where `LAST` and `BEST` are written; a run goes on from a `LAST` that is there.
    make : callable
        Makes the net of a configuration; any that embeds segments will do.
    """

    config: Config
    out: Path
    make: Callable[[Config], nn.Module] = Net.configured
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    validations: list[dict[str, float]] = field(default_factory=list)
    device: torch.device = field(init=False)
    net: nn.Module = field(init=False)
    average: nn.Module = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)
    memory: Memory | None = field(init=False)

    def __post_init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            # More threads wait for one another as soon as anything else runs.
            torch.set_num_threads(1)
        else:
            torch.backends.cudnn.benchmark = True  # batches are of few shapes
        torch.manual_seed(self.config.seed)
        net = self.make(self.config)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.net).eval().requires_grad_(False)
        decayed = [weights for weights in self.net.parameters() if weights.ndim > 1]
        others = [weights for weights in self.net.parameters() if weights.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.config.learning_rate)
        self.memory = Memory(self.config.memory) if self.config.memory else None
        if (self.out / LAST).exists():
            self._resume(Checkpoint.load(self.out / LAST))

    def _resume(self, state: Checkpoint) -> None:
        for name in ("stem_channels", "channels", "blocks", "dimensions", "seed"):
            before, now = getattr(state.config, name), getattr(self.config, name)
            if before != now:
                raise UsageError(
                    f"{self.out / LAST} was begun with {name}={before}, not {now}",
                    hint="leave that setting as it was, or choose another --out",
                )
        self.net.load_state_dict(state.net)
        self.average.load_state_dict(state.average)
        self.optimiser.load_state_dict(state.optimiser)
        torch.set_rng_state(state.random)
        self.step, self.seconds, self.best = state.step, state.seconds, state.best
        self.validations = state.validations
        if self.memory is not None:
            for anchors, tracks in state.memory:
                self.memory.add(anchors.to(self.device), tracks.to(self.device))

    def exported(self, path: Path) -> Exported:
        """Read the weights of an exported model, to start from; see `afp.training.start`."""
        assert isinstance(self.net, Net)
        if self.step:
            raise UsageError(
                f"{self.out / LAST} is a run that has begun already",
                hint="leave out --from to go on with it, or choose another --out",
            )
        return exported(self.net, path)

    def start_from(self, weights: Exported, batch: Batch) -> None:
        """Begin with the weights of an exported model."""
        segments = torch.from_numpy(np.concatenate([batch.anchors, batch.replicas])).float()
        assert isinstance(self.net, Net)
        self.net.cpu()
        start_from(self.net, weights, segments)
        self.net.to(self.device)
        self.average.load_state_dict(self.net.state_dict())

    def save(self, name: str) -> None:
        """Write a checkpoint."""
        Checkpoint(
            config=self.config,
            step=self.step,
            net=self.net.state_dict(),
            average=self.average.state_dict(),
            optimiser=self.optimiser.state_dict(),
            random=torch.get_rng_state(),
            seconds=self.seconds,
            validations=self.validations,
            best=self.best,
            commit=commit(),
            memory=self.memory.state() if self.memory is not None else [],
        ).save(self.out / name)

    def train(
        self,
        views: Views,
        validation: Validation | None,
        schedule: Schedule,
        *,
        n_workers: int,
        observer: Callable[[Progress], None] = lambda _: None,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the last step, the end of the time, or an interruption; then checkpoint.

        Parameters
        ----------
        views : Views
        validation : Validation or None
        schedule : Schedule
        n_workers : int
            Processes that make batches.
        observer : callable
            Called every few steps and after each validation.
        is_interrupted : callable
            Asked after each step.
        """
        started = saved = reported = time.monotonic()
        seconds_before, waited, losses = self.seconds, 0.0, []
        with Batches(views, first=self.step, n_workers=n_workers) as batches:
            ahead = iter(batches)
            while self.step < self.config.steps:
                before = time.monotonic()
                batch = next(ahead)
                waited += time.monotonic() - before
                losses.append(self.update(batch))
                now = time.monotonic()
                self.seconds = seconds_before + now - started
                ends = (
                    is_interrupted()
                    or now - started > schedule.stop_after_seconds
                    or self.step == self.config.steps
                )
                validates = self.step % schedule.validation_steps == 0 or (
                    self.step == self.config.steps
                )
                if ends or validates or self.step % schedule.report_steps == 0:
                    loss = float(torch.stack(losses).mean())
                    scores = self.validate(validation) if validation and validates else None
                    seconds = now - reported
                    reported, rate = time.monotonic(), self._rate()
                    observer(
                        Progress(self.step, self.config.steps, loss, rate, seconds, waited, scores)
                    )
                    waited, losses = 0.0, []
                if ends or now - saved > schedule.checkpoint_seconds:
                    self.save(LAST)
                    saved = time.monotonic()
                if ends:
                    break

    def update(self, batch: Batch) -> torch.Tensor:
        """Do a step on a batch; return its loss, which may still be on its way."""
        config = self.config
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        segments = torch.from_numpy(np.concatenate([batch.anchors, batch.replicas]))
        segments = segments.to(self.device).float()
        tracks = torch.from_numpy(batch.tracks).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            embeddings = self.net(segments)
        first, second = embeddings.chunk(2)
        if self.memory is not None:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
                self.memory.add(self.average(segments[: len(tracks)]), tracks)
        loss = loss_of(first, second, tracks, config, self.memory)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), config.gradient_norm)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return loss.detach()

    def validate(self, validation: Validation) -> dict[str, float]:
        """Score the averaged net, remember the scores, and keep it when it is the best yet."""
        scores = validation.scores(self.embed)
        self.validations.append({"step": self.step, **scores})
        if score(scores) > self.best:
            self.best = score(scores)
            self.save(BEST)
        return scores

    def embed(self, segments: np.ndarray) -> F32:
        """Embed segments, of any float dtype, with the averaged net."""
        embedded = []
        for first in range(0, len(segments), EMBEDDED_AT_ONCE):
            chunk = torch.from_numpy(segments[first : first + EMBEDDED_AT_ONCE])
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
                embedded.append(self.average(chunk.to(self.device).float()).cpu())
        found: F32 = torch.cat(embedded).numpy()
        return found

    def _follow(self) -> None:
        """Let the average follow the net, sooner as long as there is little to remember."""
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        theirs = self.net.state_dict()
        with torch.no_grad():
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(theirs[name], 1 - decay)
                else:
                    value.copy_(theirs[name])

    def _rate(self) -> float:
        """Return the learning rate of the step to come: warm-up, then half a cosine."""
        config = self.config
        if self.step < config.warm_up_steps:
            return config.learning_rate * (self.step + 1) / config.warm_up_steps
        span = max(config.steps - config.warm_up_steps, 1)
        done = min((self.step - config.warm_up_steps) / span, 1.0)
        falling = 0.5 * (1 + math.cos(math.pi * done))
        return config.learning_rate * (LEAST_RATE + (1 - LEAST_RATE) * falling)
