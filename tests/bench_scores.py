"""Scores of a benchmark that never ran, made from counts."""

import math

from afp.bench.metrics import clustered, holm, mcnemar, wilson
from afp.bench.rows import About
from afp.bench.scores import Absent, Cell, Cost, DetPoint, Pair, Scores

HOSTILE = "a\x00b\x1b[31m\udcff <script>alert(1)</script> & \"q\" 'r' $x_{1$ \u202egpj"
SKILL = {"shazam": 1.5, "philips": 0.0, "neural": 2.5}
NOISE = [("noise", {"snr": float(snr)}) for snr in (-5, 0, 5, 10)]
ROOM = [("reverb", {"t60": t60}) for t60 in (0.2, 0.5, 0.8)]
SINGLE = [("clean", {}), ("phone", {}), ("noise", {"snr": "0..10"})]
EASE = {"clean": 5.0, "phone": -1.0, "noise": 1.0, "reverb": 1.5}


def cell(backend, distortion, severity, seconds, n=50):
    words = ",".join(
        f"{key}={v if isinstance(v, str) else f'{v:g}'}" for key, v in severity.items()
    )
    snr, t60 = severity.get("snr", 0.0), severity.get("t60", 0.0)
    ease = EASE.get(distortion, 0.0) + SKILL.get(backend, 1.0) + math.log2(seconds) - 2.5
    ease += 0.0 if isinstance(snr, str) else 0.35 * snr
    share = 1 / (1 + math.exp(-(ease - 3.0 * t60)))
    k = [round(share * n * part) for part in (1.0, 0.97, 0.95, 0.8)]
    top = [min(n, round(1.1 * value)) for value in k]
    return Cell(
        backend,
        f"{distortion}:{words}" if words else distortion,
        distortion,
        severity,
        seconds,
        *(wilson(value, n) for value in k),
        wrong=wilson(min(1, n - k[0]), n),
        any_track=wilson(top[0], n),
        any_near=wilson(top[1], n),
        any_exact=wilson(top[2], n),
        any_close=wilson(top[3], n),
        recall={1: wilson(top[0], n), 5: wilson(n, n), 10: wilson(n, n)},
        mrr=0.875,
        offset_median_ms=4.25 if k[0] else None,
        offset_p95_ms=21.5 if k[0] else None,
        query_median_ms=12.5,
        query_p95_ms=31.0,
        query_cpu_ms=11.0,
    )


def det(backend):
    points = []
    for i in range(13):
        max_p = 10.0 ** (i / 2 - 6)
        missed = 0.6 / (1 + i / 3) / (1 + SKILL.get(backend, 1.0) / 3)
        points.append(DetPoint(max_p, missed, min(1.0, round(200 * max_p) / 200)))
    return points


def absent(backend, n=200):
    nominal = [10.0 ** (i / 2 - 4) for i in range(9)]
    reliability = [(p, of_excerpts(min(n, round(0.8 * p * n)), n)) for p in nominal]
    kinds = {"speech": of_excerpts(0, n), "music": of_excerpts(1, n)}
    return Absent(backend, "music", kinds["music"], kinds, reliability)


def of_excerpts(k, n):
    """So many of n queries, four of each excerpt."""
    return clustered([(min(4, max(0, k - first)), 4) for first in range(0, n, 4)])


def pairs_of(first, second, cells):
    """As if the weaker found nothing that the stronger did not."""
    found = {(c.backend, c.condition, c.seconds): c.track for c in cells}
    counts = {}
    for backend, condition, seconds in found:
        if backend == first:
            a, b = (found[name, condition, seconds] for name in (first, second))
            both = min(a.k, b.k)
            counts[condition, seconds] = (both, a.k - both, b.k - both, a.n - max(a.k, b.k))
    if not cells:
        return []
    p_values = [mcnemar(four[1], four[2]) for four in counts.values()]
    everything = [sum(four) for four in zip(*counts.values(), strict=True)]
    favour = [max(column) for column in zip(*counts.values(), strict=True)][1:3]
    p = mcnemar(*favour)
    return [
        Pair(first, second, "", 0.0, *everything, 50, *favour, p, p),
        *(
            Pair(first, second, *where, *four, sum(four), *four[1:3], p, adjusted)
            for (where, four), p, adjusted in zip(
                counts.items(), p_values, holm(p_values), strict=True
            )
        ),
    ]


def scores(
    backends=("shazam", "philips"),
    lengths=(2.0, 5.0, 10.0),
    conditions=(*SINGLE, *NOISE, *ROOM),
    with_absent=True,
    errors=(),
):
    cells = [
        cell(backend, name, severity, seconds)
        for backend in backends
        for name, severity in conditions
        for seconds in lengths
    ]
    pairs = [
        pair
        for i, first in enumerate(backends)
        for second in backends[i + 1 :]
        for pair in pairs_of(first, second, cells)
    ]
    about = About(
        afp="0.1.0",
        date="2025-03-01",
        command="afp bench music --distort noise:snr=-5,0,5,10 --seconds 2,5,10 --seed 7",
        machine={"processor": "x86", "cores": 2, "numpy": "2.4.6", "processes": 2},
        seed=7,
        max_p=0.001,
        tracks=240,
        absent_tracks=60,
        silent=3,
        seconds=54321.0,
        backends={
            name: {"version": 1, "parameters": {"density": 20, "peak_density": 36}}
            for name in backends
        },
    )
    return Scores(
        about,
        0.001,
        50 if cells else 0,
        cells,
        pairs,
        [absent(name) for name in backends] if with_absent else [],
        {name: det(name) for name in backends} if with_absent else {},
        [
            Cost(name, 96.5 + 50 * i, None if i else 210.0, 12.5 + i, 31.0, 11.0)
            for i, name in enumerate(backends)
        ],
        list(errors),
    )
