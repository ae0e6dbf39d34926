"""What a net costs to train and to use, on one core."""

import io
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from chang import BANDS, FRAMES, Chang
from torch import nn

from afp.backends import neural
from afp.features import log_mel
from afp.fingerprint import F32
from afp.training.config import Config
from afp.training.loop import Run
from afp.training.model import n_operations, n_parameters
from afp.training.views import Batch

TIMED_STEPS = 3
EMBEDDED_AT_ONCE = 32  # segments, as in use


def costs_of(run: Run, batch: Batch, samples: F32) -> dict[str, Any]:
    """Return what a trained net costs.

    Parameters
    ----------
    run : Run
        Its training.
    batch : Batch
        Of a step to be timed.
    samples : ndarray of float32, shape (n,)
        To be embedded.
    """
    net = run.average.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    costs: dict[str, Any] = {
        "parameters": n_parameters(net),
        "normalisation_parameters": sum(
            weights.numel()
            for module in net.modules()
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
            for weights in module.parameters()
        ),
        "operations": n_operations(net),
        "step_cpu_seconds": step_seconds(run.make, run.config, batch),
        **realtime(net, samples),
    }
    if isinstance(net, Chang):
        channels = [block.time.out_channels for block in net.blocks]
        theirs = Chang(channels=channels, dimensions=run.config.dimensions)
        costs["own_parameters"] = n_parameters(theirs)
        costs["own_operations"] = n_operations(theirs, (FRAMES, BANDS))
    return costs


def step_seconds(make: Callable[[Config], nn.Module], config: Config, batch: Batch) -> float:
    """Return the CPU time of a step, without the making of its batch."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, Path(folder), make)
        times = []
        for _ in range(TIMED_STEPS):
            started = time.process_time()
            run.update(batch)
            times.append(time.process_time() - started)
    return min(times)


def realtime(net: nn.Module, samples: F32) -> dict[str, float]:
    """Return how many times faster than real time one core embeds, beyond decoding."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            net,
            (torch.zeros(2, log_mel.N_FRAMES, log_mel.N_BANDS),),
            file,
            input_names=["segments"],
            output_names=["embeddings"],
            dynamic_axes={"segments": {0: "n"}, "embeddings": {0: "n"}},
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )

    def embed(part: F32) -> float:
        """Return the seconds of the net alone."""
        cut = log_mel.segments(log_mel.mel_powers(part), hop_frames=neural.HOP_FRAMES)
        seconds = 0.0
        for first in range(0, len(cut), EMBEDDED_AT_ONCE):
            heard = log_mel.normalised(cut[first : first + EMBEDDED_AT_ONCE])
            started = time.process_time()
            session.run(None, {"segments": heard})
            seconds += time.process_time() - started
        return seconds

    embed(samples[: 10 * log_mel.SAMPLE_RATE])
    started = time.process_time()
    net_seconds = embed(samples)
    length = len(samples) / log_mel.SAMPLE_RATE
    return {
        "realtime": length / (time.process_time() - started),
        "realtime_net_alone": length / net_seconds,
    }
