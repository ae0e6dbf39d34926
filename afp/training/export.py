"""Trained weights as an ONNX file that needs no torch."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from afp.features import log_mel
from afp.features.embedding import FORMAT, KIND, Embedder, front_end, packed
from afp.training.cells import centres
from afp.training.checkpoint import Checkpoint
from afp.training.model import Net, n_operations, n_parameters
from afp.training.pcm import Pcm


def export(checkpoint: Checkpoint, path: Path, music: Pcm | None = None) -> None:
    """Write the averaged net of a checkpoint.

    The input ``segments``, float32 of shape (n, N_FRAMES, N_BANDS), is what
    `afp.features.log_mel.normalised` returns; the output ``embeddings``, float32 of shape
    (n, dimensions), has rows of length 1. The metadata tell the front end, the recipe, the step
    and the scores of the last validation.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Written whole or not at all.
    music : Pcm, optional
        What the cells of large stores are made of, in a minute or so; without it the model has
        none.
    """
    import onnx

    net = Net.configured(checkpoint.config)
    net.load_state_dict(checkpoint.average)
    net.eval()
    example = torch.zeros(2, log_mel.N_FRAMES, log_mel.N_BANDS)
    temporary = path.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            net,
            (example,),
            temporary,
            input_names=["segments"],
            output_names=["embeddings"],
            dynamic_axes={"segments": {0: "n"}, "embeddings": {0: "n"}},
            dynamo=False,
        )
    model = onnx.load(temporary)
    onnx.checker.check_model(model)
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
    # What it makes of plain sounds goes along: it takes long to compute.
    embedder = Embedder(_with(model, about), path.name)
    about["plain"] = packed(embedder.plain())
    if music is not None:
        about["centres"] = packed(centres(embedder, music))
    temporary.write_bytes(_with(model, about))
    temporary.replace(path)


def _with(model: Any, metadata: dict[str, str]) -> bytes:
    """Return an ONNX model as bytes, with these metadata and no others."""
    import onnx

    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content
