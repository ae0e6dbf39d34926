"""Begin a run with the weights of a net that was exported, to go on with other music."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afp.errors import UsageError
from afp.training.model import Net

Exported = list[list[Tensor]]
"""Weight and bias of each layer, in the order in which they run."""


def exported(net: Net, path: Path) -> Exported:
    """Read the weights of an exported net of the same kind.

    Parameters
    ----------
    net : Net
        Of the same stages and dimensions.
    path : Path
        A model that `afp.training.export.export` has written.

    Raises
    ------
    UsageError
        When the file cannot be read as a model, or is of another net.
    """
    import onnx
    from onnx import numpy_helper

    hint = "name a model.onnx that `afp train` has written"
    try:
        graph = onnx.load(path, load_external_data=False).graph
        values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint=hint) from None
    except Exception:  # whatever parsing a foreign or truncated file raises
        raise UsageError(f"{path}: no ONNX model, or a truncated one", hint=hint) from None
    found = [
        [_tensor(values[name]) for name in node.input[1:3] if name in values]
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    shapes = [[tuple(part.shape) for part in parts] for parts in found]
    if shapes != [[tuple(layer.weight.shape), (len(layer.weight),)] for layer, _ in _layers(net)]:
        raise UsageError(
            f"{path} is of another net",
            hint="set channels, blocks, stem_channels and dimensions as it was trained with",
        )
    return found


def start_from(net: Net, weights: Exported, segments: Tensor) -> None:
    """Give a net the weights of an exported one.

    In an export the normalisations are part of the convolutions. Here each convolution gets a
    normalisation again that, with the mean and variance of its output for some segments, does
    nothing: the net embeds as the exported one does, and learns as one that has never been
    exported.

    Parameters
    ----------
    net : Net
    weights : list of list of Tensor
        See `exported`.
    segments : Tensor of float32, shape (n, N_FRAMES, N_BANDS)
        Of the kind that it goes on with.
    """
    layers = _layers(net)
    with torch.no_grad():
        for (layer, norm), (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
            if norm is None:
                layer.bias.copy_(bias)
            else:
                _pass_through(norm, bias)
        _settle(net, [(layer, norm) for layer, norm in layers if norm is not None], segments)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.copy())


def _layers(net: Net) -> list[tuple[Any, Any]]:
    """Return layers and what normalises their outputs, None for the last, as they run."""
    layers: list[tuple[Any, Any]] = [(net.stem, net.stem_norm)]
    block: Any
    for block in net.stages:
        layers.append((block.first, block.first_norm))
        if isinstance(block.past, nn.Sequential):
            layers.append((block.past[0], block.past[1]))
        layers.append((block.second, block.second_norm))
    return [*layers, (net.head, None)]


def _pass_through(norm: Any, bias: Tensor) -> None:
    """Let a normalisation, as it is in use, only add a bias."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def _settle(net: Net, layers: list[tuple[Any, Any]], segments: Tensor) -> None:
    """Give normalisations the mean and variance that they meet, and undo what that changes."""
    met: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def watch(layer: nn.Module, _: object, output: Tensor) -> None:
        met[layer] = output.mean((0, 2, 3)), output.var((0, 2, 3))

    handles = [layer.register_forward_hook(watch) for layer, _ in layers]
    was_training = net.training
    net.eval()
    net(segments)
    net.train(was_training)
    for handle in handles:
        handle.remove()
    for layer, norm in layers:
        mean, variance = met[layer]
        norm.bias.add_(mean)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
