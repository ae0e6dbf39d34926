"""Trained weights as an ONNX file that needs no torch."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from afp.features import log_mel
from afp.features.embedding import FORMAT, KIND, Embedder, front_end, packed
from afp.fingerprint import F32
from afp.training.cells import centres, sampled
from afp.training.checkpoint import Checkpoint
from afp.training.model import Net, n_operations, n_parameters
from afp.training.pcm import Pcm
from afp.training.whitening import EXPONENT, RIDGE, whitening


def export(checkpoint: Checkpoint, path: Path, music: Pcm | None = None) -> None:
    """Write the averaged net of a checkpoint, as a model that `afp.features.embedding` reads.

    The input ``segments``, float32 of shape (n, N_FRAMES, N_BANDS), is what
    `afp.features.log_mel.normalised` returns; the output ``embeddings``, float32 of shape
    (n, dimensions), has rows of length 1. The metadata tell the front end, the recipe, the step,
    the scores of the last validation, which knows no whitening, and what it was whitened with.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Written whole or not at all.
    music : Pcm, optional
        What the embeddings are whitened by, and the cells of large stores are made of, in a
        minute or so; without it they are as the net gives them, and there are no cells.
    """
    net = Net.configured(checkpoint.config)
    net.load_state_dict(checkpoint.average)
    net.eval()
    about = {
        "format": str(FORMAT),
        "kind": KIND,
        "front_end": json.dumps(front_end()),
        "config": json.dumps(checkpoint.config.as_dict()),
        "step": str(checkpoint.step),
        "seconds": f"{checkpoint.seconds:.0f}",
        "commit": checkpoint.commit,
        "validation": json.dumps(checkpoint.validations[-1] if checkpoint.validations else {}),
        "parameters": str(n_parameters(net)),
        "operations": str(n_operations(net)),
    }
    temporary = path.with_suffix(".partial")
    if music is not None:
        embeddings = sampled(Embedder(_with(_traced(net, temporary), about), path.name), music)
        matrix = whitening(embeddings)
        _compose(net.head, matrix)
        about["whitened"] = json.dumps({"exponent": EXPONENT, "ridge": RIDGE})
        whitened = embeddings @ matrix
        whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
        about["centres"] = packed(centres(whitened))
    model = _traced(net, temporary)
    # What it makes of plain sounds goes along: it takes long to compute.
    about["plain"] = packed(Embedder(_with(model, about), path.name).plain())
    temporary.write_bytes(_with(model, about))
    temporary.replace(path)


def _compose(head: nn.Linear, matrix: F32) -> None:
    """Let what a linear layer gives go through a symmetric matrix."""
    through = torch.from_numpy(matrix)
    with torch.no_grad():
        head.weight.copy_(through @ head.weight)
        head.bias.copy_(through @ head.bias)


def _traced(net: Net, path: Path) -> Any:
    """Return the net as an ONNX model; the file is scratch."""
    import onnx

    example = torch.zeros(2, log_mel.N_FRAMES, log_mel.N_BANDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            net,
            (example,),
            path,
            input_names=["segments"],
            output_names=["embeddings"],
            dynamic_axes={"segments": {0: "n"}, "embeddings": {0: "n"}},
            dynamo=False,
        )
    model = onnx.load(path)
    onnx.checker.check_model(model)
    return model


def _with(model: Any, metadata: dict[str, str]) -> bytes:
    """Return an ONNX model as bytes, with these metadata and no others."""
    import onnx

    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content
