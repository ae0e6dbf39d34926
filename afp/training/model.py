"""The net: a small residual one over log-mel segments."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from afp.features.log_mel import N_BANDS, N_FRAMES
from afp.training.config import Config


class Block(nn.Module):
    """Two 3 × 3 convolutions and what goes past them (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(n_out)
        self.past: nn.Module = nn.Identity()
        if n_in != n_out or stride != (1, 1):
            self.past = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, time, frequency) to (n, n_out, time / stride, frequency / stride)."""
        inner = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(self.past(x) + self.second_norm(self.second(inner)), inplace=True)


class Net(nn.Module):
    """Embed segments: (n, N_FRAMES, N_BANDS) to (n, dimensions), each of length 1.

    A convolution takes a segment to half its frames and a quarter of its bands; each stage halves
    the bands, every other one the frames. What is left is flattened, since where in the segment
    and in which band something sounds is what tells segments apart.

    Parameters
    ----------
    stem_channels : int
    channels : sequence of int
        Of each stage.
    blocks : sequence of int
        In each stage.
    dimensions : int
        Of the embedding.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        dimensions: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, stem_channels, (3, 7), (2, 4), (1, 3), bias=False)
        self.stem_norm = nn.BatchNorm2d(stem_channels)
        stages: list[nn.Module] = []
        n_in = stem_channels
        for stage, (n_out, n_blocks) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(n_blocks):
                stride = (1 if stage % 2 else 2, 2) if block == 0 else (1, 1)
                stages.append(Block(n_in, n_out, stride))
                n_in = n_out
        self.stages = nn.Sequential(*stages)
        frames, bands = -(-N_FRAMES // 2), N_BANDS // 4
        for stage in range(len(channels)):
            frames, bands = (frames if stage % 2 else -(-frames // 2)), -(-bands // 2)
        self.head = nn.Linear(n_in * frames * bands, dimensions)

    @classmethod
    def configured(cls, config: Config) -> "Net":
        """Make the net of a configuration, with random weights."""
        return cls(
            stem_channels=config.stem_channels,
            channels=config.channels,
            blocks=config.blocks,
            dimensions=config.dimensions,
        )

    def forward(self, segments: Tensor) -> Tensor:
        """Embed segments."""
        x = segments.unsqueeze(1)
        x = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        x = self.stages(x)
        return F.normalize(self.head(x.flatten(1)).float(), dim=1)


def n_parameters(net: nn.Module) -> int:
    """Count the weights."""
    return sum(weights.numel() for weights in net.parameters())


def n_operations(net: nn.Module, shape: tuple[int, int] = (N_FRAMES, N_BANDS)) -> int:
    """Count the multiplications and additions, as one, of the convolutions and linear layers.

    Parameters
    ----------
    net : Module
    shape : tuple of int
        Frames and bands of a segment.
    """
    total = 0

    def add(module: nn.Module, _arguments: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.Linear)
        total += output[0].numel() * module.weight[0].numel()

    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    was_training = net.training
    net.eval()
    with torch.no_grad():
        net(torch.zeros(1, *shape))
    net.train(was_training)
    for handle in handles:
        handle.remove()
    return total
