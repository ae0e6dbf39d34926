"""What dimensions, quantisation and shifts of the query buy, on a model that is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Corpus
from output import note
from queries import Query, embedded, queries_of, shortened
from sequences import Laid, exact, quantised

from afp.backends import neural
from afp.fingerprint import F32
from afp.training.pcm import FULL_SCALE, Pcm

CONDITIONS = ("noise:snr=0", "chang", "phone")
SECONDS = (1.0, 2.0, 3.0)
NEAR_SECONDS = 0.5


def query_side(
    backend: neural.Backend,
    music: Pcm,
    distractors: Pcm,
    found: Corpus,
    folder: Path,
    *,
    n_queries: int,
    n_distractors: int,
) -> list[dict[str, Any]]:
    """Measure dimensions, quantisation and shifts of the query on a trained model."""
    paths = [Path(name) for name in music.names]
    tracks = embedded((samples_of(music, i) for i in range(len(music))), backend)
    n = 0
    for i in np.random.default_rng(0).permutation(len(distractors)).tolist():
        if n >= n_distractors:
            break
        tracks += embedded([samples_of(distractors, i)], backend)
        n += len(tracks[-1])
    n_short = backend.dimensions // 2
    short = [shortened(track, n_short) for track in tracks]
    laid = {
        "as it is": Laid.of([quantised(track) for track in tracks]),
        "float32 instead of int8": Laid.of(tracks),
        f"{n_short} dimensions": Laid.of([quantised(track) for track in short]),
        "one shift of the query": Laid.of([quantised(track) for track in tracks]),
    }
    rows: dict[str, dict[str, float]] = {name: {} for name in laid}
    for seconds in SECONDS:
        for condition in CONDITIONS:
            queries = queries_of(
                paths,
                found,
                backend,
                folder,
                conditions=[condition],
                seconds=seconds,
                queries=n_queries,
                seed=0,
            )
            for name, stored in laid.items():
                shares = _found(queries, stored, backend, one_shift=name.startswith("one shift"))
                for kind, share in shares.items():
                    rows[name][f"{condition} {seconds:g}s {kind}"] = share
        note(f"the query's side: {seconds:g} s")
    return [{"name": name, "scores": scores} for name, scores in rows.items()]


def _found(
    queries: Sequence[Query], laid: Laid, backend: neural.Backend, *, one_shift: bool
) -> dict[str, float]:
    """Return how many queries are found: the track, and the place within half a second."""
    fineness, side = (1, 0.0) if one_shift else (neural.FINENESS, neural.SIDE)
    step_seconds = backend.hop_seconds / fineness
    tracks, near = [], []
    for query in queries:
        first = neural.OVERHANG_STEPS if one_shift else 0  # begins with the query, or before it
        vectors = query.vectors[first :: neural.FINENESS // fineness]
        if laid.vectors.shape[1] < vectors.shape[1]:
            vectors = shortened(vectors, laid.vectors.shape[1])
        place = exact(vectors, laid, fineness=fineness, side=side)
        tracks.append(place.track == query.track)
        offset = place.offset + neural.OVERHANG_STEPS - first
        distance = abs(offset * step_seconds - query.start_seconds)
        near.append(tracks[-1] and distance <= NEAR_SECONDS)
    return {"track": sum(tracks) / len(tracks), "near": sum(near) / len(near)}


def samples_of(music: Pcm, i: int) -> F32:
    return music[i].astype(np.float32) / np.float32(FULL_SCALE)
