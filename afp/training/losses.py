"""Contrastive losses over a batch of pairs."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the customary name

from afp.training.config import Config


def nt_xent(anchors: Tensor, replicas: Tensor, tracks: Tensor, *, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al. 2020, "SimCLR"; Chang et al. 2021).

    Each view must find its partner among the views of other tracks.

    Parameters
    ----------
    anchors, replicas : Tensor, shape (n, d)
        Of length 1; row i of both are a pair.
    tracks : Tensor of int64, shape (n,)
        Which track each pair is of.
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
    tracks : Tensor of int64, shape (n,)
        Which track each pair is of.
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


def loss_of(anchors: Tensor, replicas: Tensor, tracks: Tensor, config: Config) -> Tensor:
    """Compute the loss that a configuration asks for, over the whole and the short embedding."""

    def one(first: Tensor, second: Tensor) -> Tensor:
        if config.loss == "triplet":
            return triplet(first, second, tracks, margin=config.margin)
        return nt_xent(first, second, tracks, temperature=config.temperature)

    loss = one(anchors, replicas)
    if n := config.short_dimensions:
        short = one(F.normalize(anchors[:, :n], dim=1), F.normalize(replicas[:, :n], dim=1))
        loss = (loss + short) / 2
    return loss


def _of_other_tracks(tracks: Tensor) -> Tensor:
    """Tell for each view (row) which views (columns) are of another track."""
    both = torch.cat([tracks, tracks])
    return both[:, None] != both[None]
