"""Contrastive losses over a batch of pairs."""

from collections import deque

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the customary name

from afp.training.config import Config


class Memory:
    """Anchors of the latest steps, as the slowly moving average of the net embeds them.

    K. He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (CVPR 2020).

    Parameters
    ----------
    n_steps : int
        How many steps are remembered.
    """

    def __init__(self, n_steps: int) -> None:
        self._steps: deque[tuple[Tensor, Tensor]] = deque(maxlen=n_steps)

    def add(self, anchors: Tensor, tracks: Tensor) -> None:
        """Remember the anchors (n, d) of a step and their tracks (n, 2); forget the oldest."""
        self._steps.append((anchors, tracks))

    def state(self) -> list[tuple[Tensor, Tensor]]:
        """Return what a checkpoint keeps: anchors and tracks of each step, the oldest first."""
        return list(self._steps)

    def all(self) -> tuple[Tensor, Tensor]:
        """Return the anchors (m, d) of all steps that are remembered, and their tracks (m, 2)."""
        anchors, tracks = zip(*self._steps, strict=True)
        return torch.cat(anchors), torch.cat(tracks)


def nt_xent(anchors: Tensor, replicas: Tensor, tracks: Tensor, *, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al. 2020, "SimCLR"; Chang et al. 2021).

    Each view must find its partner among the views of other tracks.

    Parameters
    ----------
    anchors, replicas : Tensor, shape (n, d)
        Of length 1; row i of both are a pair.
    tracks : Tensor of int64, shape (n, 2)
        Which track each pair is of, and which one is mixed in, −1 for none.
    temperature : float
        The smaller, the more the nearest wrong views count.

    Returns
    -------
    Tensor, shape ()
    """
    views = torch.cat([anchors, replicas])
    similarities = views @ views.T / temperature
    partners = torch.arange(len(views), device=views.device).roll(len(anchors))
    candidates = _of_other_tracks(tracks).scatter(1, partners[:, None], value=True)
    return F.cross_entropy(similarities.masked_fill(~candidates, -torch.inf), partners)


def triplet(anchors: Tensor, replicas: Tensor, tracks: Tensor, *, margin: float) -> Tensor:
    """Triplet loss with semi-hard negatives (Schroff et al. 2015; Gfeller et al. 2017).

    The negative is the nearest view of another track that is further away than the partner; where
    there is none, the furthest of all. With one replica an anchor, the partner is the hardest
    positive.

    Parameters
    ----------
    anchors, replicas : Tensor, shape (n, d)
        Of length 1; row i of both are a pair.
    tracks : Tensor of int64, shape (n, 2)
        Which track each pair is of, and which one is mixed in, −1 for none.
    margin : float
        By which the negative's squared distance shall exceed the partner's.

    Returns
    -------
    Tensor, shape ()
    """
    views = torch.cat([anchors, replicas])
    distances = 2 - 2 * (views @ views.T)
    places = torch.arange(len(views), device=views.device)
    positives = distances[places, places.roll(len(anchors))]
    others = _of_other_tracks(tracks)
    further = others & (distances > positives[:, None])
    nearest = distances.masked_fill(~further, torch.inf).amin(dim=1)
    furthest = distances.masked_fill(~others, -torch.inf).amax(dim=1)
    negatives = torch.where(further.any(dim=1), nearest, furthest)
    return F.relu(positives - negatives + margin).mean()


def info_nce(replicas: Tensor, memory: Memory, *, temperature: float) -> Tensor:
    """Cross entropy of finding each replica's anchor among all that are remembered.

    As a query meets a store: what is distorted against what is clean (van den Oord et al. 2018,
    "Representation learning with contrastive predictive coding").

    Parameters
    ----------
    replicas : Tensor, shape (n, d)
        Of length 1, in the order of the anchors that were remembered last.
    memory : Memory
    temperature : float
        As for `nt_xent`.

    Returns
    -------
    Tensor, shape ()
    """
    anchors, tracks = memory.all()
    n = len(replicas)
    similarities = replicas @ F.normalize(anchors[:, : replicas.shape[1]], dim=1).T / temperature
    partners = torch.arange(len(tracks) - n, len(tracks), device=tracks.device)
    candidates = _are_apart(tracks[partners], tracks)
    candidates = candidates.scatter(1, partners[:, None], value=True)
    return F.cross_entropy(similarities.masked_fill(~candidates, -torch.inf), partners)


def loss_of(
    anchors: Tensor,
    replicas: Tensor,
    tracks: Tensor,
    config: Config,
    memory: Memory | None = None,
) -> Tensor:
    """Compute the loss that a configuration asks for, over the whole and the short embedding.

    With a memory, which holds the anchors already, the mean of it and `info_nce`.
    """

    def one(n: int) -> Tensor:
        first, second = (F.normalize(each[:, :n], dim=1) for each in (anchors, replicas))
        if config.loss == "triplet":
            loss = triplet(first, second, tracks, margin=config.margin)
        else:
            loss = nt_xent(first, second, tracks, temperature=config.temperature)
        if memory is not None:
            loss = (loss + info_nce(second, memory, temperature=config.temperature)) / 2
        return loss

    loss = one(config.dimensions)
    if n := config.short_dimensions:
        loss = (loss + one(n)) / 2
    return loss


def _of_other_tracks(tracks: Tensor) -> Tensor:
    """Tell for each view (row) which views (columns) are of another track."""
    both = torch.cat([tracks, tracks])
    return _are_apart(both, both)


def _are_apart(first: Tensor, second: Tensor) -> Tensor:
    """Tell which of the first tracks (n, 2) have nothing in common with which second (m, 2)."""
    same = first[:, None, :, None] == second[None, :, None, :]
    same &= first[:, None, :, None] >= 0
    return ~same.any(dim=(2, 3))
