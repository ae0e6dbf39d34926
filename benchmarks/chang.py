"""The network of S. Chang et al., "Neural Audio Fingerprint" (ICASSP 2021), in PyTorch.

As in the authors' code: eight spatially separable convolutions, each 1 × 3 over time and then 3 × 1
over frequency, with ELU and layer normalisation over all channels, bands and frames after each of
the two; then "divide and encode", where every number of the embedding comes from a slice of the
features.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

BANDS, FRAMES = 256, 32
"""Of the paper's own input: 1 s at 8 kHz."""

CHANNELS = (128, 128, 256, 256, 512, 512, 1024, 1024)
HALVES_TIME = (True, True, True, True, False, True, False, True)  # every block halves the bands
UNITS = 32  # of each slice's hidden layer


class Separable(nn.Module):
    """A 3 × 3 convolution as one over time and one over frequency."""

    def __init__(
        self, n_in: int, n_out: int, bands: int, frames: int, *, halves_time: bool
    ) -> None:
        super().__init__()
        # One frame cannot be halved, and oneDNN's bfloat16 gradient of that has no defined value.
        stride = 2 if halves_time and frames > 1 else 1
        self.time = nn.Conv2d(n_in, n_out, (1, 3), (1, stride), (0, 1))
        frames = -(-frames // stride)
        self.time_norm = nn.LayerNorm((n_out, bands, frames))
        self.frequency = nn.Conv2d(n_out, n_out, (3, 1), (2, 1), (1, 0))
        bands = -(-bands // 2)
        self.frequency_norm = nn.LayerNorm((n_out, bands, frames))
        self.bands, self.frames = bands, frames

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, bands, frames) to (n, n_out, bands / 2, frames or half of them)."""
        x = self.time_norm(F.elu(self.time(x)))
        return self.frequency_norm(F.elu(self.frequency(x)))


class Chang(nn.Module):
    """Embed segments: (n, frames, bands) to (n, dimensions), each of length 1.

    Parameters
    ----------
    bands, frames : int
        Of a segment. Where fewer bands are left than a block could halve, there is one.
    channels : sequence of int
        Of the eight blocks.
    dimensions : int
        Of the embedding.
    """

    def __init__(
        self,
        *,
        bands: int = BANDS,
        frames: int = FRAMES,
        channels: Sequence[int] = CHANNELS,
        dimensions: int = 128,
    ) -> None:
        super().__init__()
        blocks: list[Separable] = []
        n_in = 1
        for n_out, halves_time in zip(channels, HALVES_TIME, strict=True):
            blocks.append(Separable(n_in, n_out, bands, frames, halves_time=halves_time))
            n_in, bands, frames = n_out, blocks[-1].bands, blocks[-1].frames
        self.blocks = nn.Sequential(*blocks)
        # Dense layers of each slice's own are convolutions in groups.
        n_features = n_in * bands * frames
        self.divide = nn.Conv2d(n_features, dimensions * UNITS, 1, groups=dimensions)
        self.encode = nn.Conv2d(dimensions * UNITS, dimensions, 1, groups=dimensions)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, segments: Tensor) -> Tensor:
        """Embed segments."""
        x = self.blocks(segments.transpose(1, 2).unsqueeze(1))
        x = self.encode(F.elu(self.divide(x.flatten(1)[:, :, None, None])))
        return F.normalize(x.flatten(1).float(), dim=1)
