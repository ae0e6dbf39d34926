"""Contrastive losses over a batch of pairs."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the customary name

from afp.training.config import Config


def nt_xent(anchors: Tensor, replicas: Tensor, *, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al. 2020, "SimCLR"; Chang et al. 2021).

    Each view must find its partner among all other views of the batch.

    Parameters
    ----------
    anchors, replicas : Tensor, shape (n, d)
        Of length 1; row i of both are a pair.
    temperature : float
        The smaller, the more the nearest wrong views count.

    Returns
    -------
    Tensor, shape ()
    """
    n = len(anchors)
    views = torch.cat([anchors, replicas])
    similarities = views @ views.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=views.device)
    similarities = similarities.masked_fill(itself, -torch.inf)
    partners = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(similarities, partners)


def triplet(anchors: Tensor, replicas: Tensor, *, margin: float) -> Tensor:
    """Triplet loss with semi-hard negatives (Schroff et al. 2015; Gfeller et al. 2017).

    The negative is the nearest view of another pair that is further away than the partner; where
    there is none, the furthest of all. With one replica an anchor, the partner is the hardest
    positive.

    Parameters
    ----------
    anchors, replicas : Tensor, shape (n, d)
        Of length 1; row i of both are a pair.
    margin : float
        By which the negative's squared distance shall exceed the partner's.

    Returns
    -------
    Tensor, shape ()
    """
    n = len(anchors)
    views = torch.cat([anchors, replicas])
    distances = 2 - 2 * (views @ views.T)
    places = torch.arange(2 * n, device=views.device)
    positives = distances[places, places.roll(n)]
    others = places[:, None] % n != places[None] % n
    further = others & (distances > positives[:, None])
    nearest = distances.masked_fill(~further, torch.inf).amin(dim=1)
    furthest = distances.masked_fill(~others, -torch.inf).amax(dim=1)
    negatives = torch.where(further.any(dim=1), nearest, furthest)
    return F.relu(positives - negatives + margin).mean()


def loss_of(anchors: Tensor, replicas: Tensor, config: Config) -> Tensor:
    """Compute the loss that a configuration asks for, over the whole and the short embedding."""

    def one(first: Tensor, second: Tensor) -> Tensor:
        if config.loss == "triplet":
            return triplet(first, second, margin=config.margin)
        return nt_xent(first, second, temperature=config.temperature)

    loss = one(anchors, replicas)
    if n := config.short_dimensions:
        short = one(F.normalize(anchors[:, :n], dim=1), F.normalize(replicas[:, :n], dim=1))
        loss = (loss + short) / 2
    return loss
