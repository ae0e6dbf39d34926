"""Trained weights as an ONNX file that needs no torch."""

import json
import warnings
from pathlib import Path

import torch

from afp.features import log_mel
from afp.features.embedding import FORMAT, KIND, front_end
from afp.training.checkpoint import Checkpoint
from afp.training.model import Net, n_operations, n_parameters


def export(checkpoint: Checkpoint, path: Path) -> None:
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
    onnx.helper.set_model_props(model, about)
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(path)
