import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis import music, noise, silence, tone

from afp.features import bit_hashes
from afp.features.bit_hashes import BANDS, HASH_BITS, MOMENTS, REGIONS, anchor_hashes, probe_hashes
from afp.features.sub_fingerprints import (
    MOST_ODDS,
    SubFingerprints,
    band_edges,
    band_energies,
    energies_between,
    log_probability_right,
    sub_fingerprints,
)

RATE, N_FFT, HOP = 5512, 2048, 64
EDGES = band_edges(N_FFT, RATE)


def energies_of(samples, **options):
    return band_energies(samples, EDGES, **{"n_fft": N_FFT, "hop_length": HOP, **options})


def naive_energies(samples, edges):
    """Sum the power of each bin by the share of it that lies in the band."""
    window = np.hanning(N_FFT + 1)[:-1] * 4 / N_FFT
    n_frames = max(0, (len(samples) - N_FFT) // HOP + 1)
    out = np.zeros((n_frames, 33))
    bins = np.arange(N_FFT // 2 + 1)
    for t in range(n_frames):
        power = np.abs(np.fft.rfft(samples[t * HOP : t * HOP + N_FFT] * window)) ** 2
        for band in range(33):
            share = np.minimum(bins + 1, edges[band + 1]) - np.maximum(bins, edges[band])
            out[t, band] = (power * share.clip(0, 1)).sum()
    return out


def naive_sub_fingerprints(energies):
    steps = energies[:, :-1] - energies[:, 1:]
    return [
        sum(1 << m for m in range(32) if steps[t + 1, m] - steps[t, m] > 0)
        for t in range(len(energies) - 1)
    ]


def naive_odds(energies):
    """What two bands change by, beside what is in them and a millionth of the whole."""
    energies = energies.astype(np.float64)
    odds = np.zeros((len(energies) - 1, 32))
    for t, m in np.ndindex(odds.shape):
        four = energies[t : t + 2, m : m + 2]
        change = abs(four[0, 0] - four[0, 1] - four[1, 0] + four[1, 1])
        beside = four.sum() + 1e-6 * energies[t : t + 2].sum()
        odds[t, m] = min(8 * np.sqrt(change / beside), MOST_ODDS)
    return odds


def random_prints(rng, n, silent=0.0):
    return SubFingerprints(
        rng.integers(0, 1 << 32, n, dtype=np.uint32),
        rng.uniform(0, MOST_ODDS, (n, 32)).astype(np.float32),
        rng.random(n) >= silent,
    )


def hash_of(bits, t, region, spacing):
    value = region
    for moment in range(MOMENTS):
        word = (int(bits[t + moment * spacing]) >> (BANDS * region)) & ((1 << BANDS) - 1)
        value = (value << BANDS) | word
    return value


def test_bands_are_spaced_evenly_in_logarithm_from_300_to_2000_hz():
    hertz = EDGES * RATE / N_FFT
    assert hertz[[0, -1]] == pytest.approx([300, 2000])
    np.testing.assert_allclose(np.diff(np.log(hertz)), np.log(2000 / 300) / 33)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(N_FFT - 1, 3 * N_FFT), st.booleans())
def test_energies_are_those_of_the_definition(seed, n, quick_start):
    samples = np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)
    found = energies_of(samples, quick_start=quick_start)
    np.testing.assert_allclose(found, naive_energies(samples, EDGES), rtol=2e-4)


def test_several_sets_of_edges_give_what_each_gives():
    samples = music(2, 1, RATE)
    both = band_energies(samples, EDGES * [[0.97], [1.0]], n_fft=N_FFT, hop_length=HOP)
    np.testing.assert_array_equal(both[1], energies_of(samples))
    alone = band_energies(samples, EDGES * 0.97, n_fft=N_FFT, hop_length=HOP)
    np.testing.assert_array_equal(both[0], alone)


def test_a_full_scale_tone_has_its_energy_in_its_band():
    energies = energies_of(tone(1, 1000.0, RATE))
    band = np.searchsorted(EDGES, 1000 * N_FFT / RATE) - 1
    assert (energies.argmax(axis=1) == band).all()


@pytest.mark.parametrize(
    "samples",
    [silence(2, RATE), np.full(2 * RATE, 0.5, np.float32), np.float32(1e-7) * tone(2, 500, RATE)],
    ids=["zeros", "constant", "far below the floor"],
)
def test_silence_is_not_audible(samples):
    prints = sub_fingerprints(energies_of(samples))
    assert len(prints) > 100
    assert not prints.audible.any()
    assert not prints.bits.any()
    assert not prints.odds.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 80))
def test_bits_are_those_of_the_definition(seed, n, depth_db):
    rng = np.random.default_rng(seed)
    levels = 10 ** rng.uniform(-depth_db / 10, 0, 33)  # of the bands
    energies = (levels * rng.exponential(1, (n, 33))).astype(np.float32)
    prints = sub_fingerprints(energies)
    assert prints.bits.tolist() == naive_sub_fingerprints(energies)
    assert prints.audible.all()
    np.testing.assert_allclose(prints.odds, naive_odds(energies), rtol=1e-2, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_what_does_not_rise_above_what_is_steady_is_trusted_less(seed, n):
    rng = np.random.default_rng(seed)
    energies = rng.exponential(1, (n, 33)).astype(np.float32)
    energies[rng.random(n) < 0.1] = 0
    plain, noisy = sub_fingerprints(energies), sub_fingerprints(energies, noisy=True)
    np.testing.assert_array_equal(noisy.bits, plain.bits)
    np.testing.assert_array_equal(noisy.audible, plain.audible)
    heard = [row for row in energies if row.any()]
    for t, m in np.ndindex(plain.odds.shape):
        if not plain.audible[t] or plain.odds[t, m] >= MOST_ODDS:
            continue
        pairs = sorted(row[m] + row[m + 1] for row in heard)
        steady = 2 * pairs[int(0.15 * (len(heard) - 1))]
        share = min(steady / energies[t : t + 2, m : m + 2].sum(), 1)
        expected = min(plain.odds[t, m] * 10 / 8 * (1 - 0.6 * share), MOST_ODDS)
        assert noisy.odds[t, m] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_bits_that_steady_noise_turns_are_told_apart():
    samples = music(10, 6, RATE)
    added = noise(10, 6, RATE, level=samples.std())
    clean = sub_fingerprints(energies_of(samples))
    wrong = (
        ((clean.bits ^ sub_fingerprints(energies_of(samples + added)).bits)[:, None])
        >> (np.arange(32, dtype=np.uint32))
        & 1
    )
    told = []  # bits of information a bit, given what is said of it
    for noisy in (False, True):
        odds = sub_fingerprints(energies_of(samples + added), noisy=noisy).odds
        right = np.where(wrong, -odds, odds).astype(np.float64)
        told.append(1 - np.log2(1 + np.exp(-right)).mean())
    assert told[1] > told[0]


def test_bits_do_not_depend_on_where_a_frame_stands():
    samples = music(12, 3, RATE) + noise(12, 3, RATE, level=0.003)
    whole = sub_fingerprints(energies_of(samples))
    for n_hops in (1, 7, 130):
        part = sub_fingerprints(energies_of(samples[n_hops * HOP :]))
        np.testing.assert_array_equal(part.bits, whole.bits[n_hops:])
        np.testing.assert_array_equal(part.odds, whole.odds[n_hops:])


def test_bits_that_noise_turns_have_low_odds():
    samples = music(10, 4, RATE)
    clean = sub_fingerprints(energies_of(samples))
    noisy = sub_fingerprints(energies_of(samples + noise(10, 4, RATE, level=samples.std())))
    wrong = ((clean.bits ^ noisy.bits)[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    surest = noisy.odds > np.quantile(noisy.odds, 0.8)
    least = noisy.odds < np.quantile(noisy.odds, 0.2)
    assert wrong[surest].mean() < 0.5 * wrong[least].mean()


def test_log_probabilities_are_those_of_the_odds():
    odds = np.array([0.0, 1.0, 4.0], np.float32)
    np.testing.assert_allclose(np.exp(log_probability_right(odds)), 1 / (1 + np.exp(-odds)), 1e-5)


def test_energies_between_frames_are_interpolated():
    samples = music(4, 5, RATE) + noise(4, 5, RATE, level=0.003)
    coarse = energies_of(samples, hop_length=2 * HOP)
    fine = energies_of(samples)[: 2 * len(coarse) - 1]
    between = energies_between(coarse, np.arange(len(fine)) / 2)
    np.testing.assert_array_equal(between[::2], coarse)
    differ = np.bitwise_xor(sub_fingerprints(between).bits, sub_fingerprints(fine).bits)
    assert np.unpackbits(differ.view(np.uint8)).mean() < 0.02


def test_nothing_is_interpolated_next_to_silence():
    energies = np.ones((4, 33), np.float32)
    energies[2] = 0
    between = energies_between(energies, np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]))
    assert between.any(axis=1).tolist() == [True, True, False, False, False, True]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000), st.integers(0, 90), st.integers(1, 12), st.integers(1, 9), st.booleans()
)
def test_anchors_are_where_the_odds_are_highest(seed, n, spacing, radius, quiet):
    prints = random_prints(np.random.default_rng(seed), n, silent=0.05 * quiet)
    frames, hashes = anchor_hashes(prints, spacing=spacing, radius=radius)
    n_starts = n - (MOMENTS - 1) * spacing
    trust = np.full((max(n_starts, 0), REGIONS), -1.0)
    by_region = prints.odds.reshape(n, REGIONS, BANDS).sum(axis=2, dtype=np.float64)
    for t in range(n_starts):
        if prints.audible[t : t + (MOMENTS - 1) * spacing + 1 : spacing].all():
            trust[t] = by_region[t : t + (MOMENTS - 1) * spacing + 1 : spacing].sum(axis=0)
    expected = [
        (t, hash_of(prints.bits, t, region, spacing))
        for t in range(radius, n_starts - radius)
        for region in range(REGIONS)
        if trust[t, region] > 0
        and trust[t, region] == trust[t - radius : t + radius + 1, region].max()
    ]
    assert list(zip(frames.tolist(), hashes.tolist(), strict=True)) == expected
    assert (hashes < REGIONS << HASH_BITS).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60), st.integers(1, 8), st.integers(1, 3))
def test_probes_are_the_most_probable_variants(seed, n, spacing, step):
    prints = random_prints(np.random.default_rng(seed), n, silent=0.02)
    expected = {}
    for t in range(0, n - (MOMENTS - 1) * spacing, step):
        at = t + spacing * np.arange(MOMENTS)
        if not prints.audible[at].all():
            continue
        for region in range(REGIONS):
            odds = prints.odds[at, BANDS * region : BANDS * (region + 1)]
            price = np.log1p(np.exp(-odds)).sum()
            # Bit j of a hash, counted from the highest moment down.
            flat = odds[::-1].ravel()
            weakest = np.argsort(flat)[: bit_hashes.WEAKEST]
            value = hash_of(prints.bits, t, region, spacing)
            for mask in range(1 << bit_hashes.WEAKEST):
                flipped = [j for k, j in enumerate(weakest) if mask >> k & 1]
                variant = value ^ sum(1 << int(j) for j in flipped)
                expected[t, variant] = price + flat[flipped].sum()
    times, hashes = probe_hashes(prints, spacing=spacing, step=step, most=500)
    found = list(zip(times.tolist(), hashes.tolist(), strict=True))
    assert len(set(found)) == len(found) <= 500
    assert set(found) <= expected.keys()
    dearest = max((expected[each] for each in found), default=0)
    cheaper = [each for each, price in expected.items() if price < dearest - 1 / 8]
    assert set(cheaper) <= set(found)
    if len(expected) <= 500:
        assert set(found) == {k for k, price in expected.items() if price < 64 - 1e-3}


def test_what_a_reference_holds_is_among_the_probes_of_a_noisy_query():
    samples = music(10, 6, RATE) + noise(10, 6, RATE, level=0.003)
    reference = sub_fingerprints(energies_of(samples))
    frames, hashes = anchor_hashes(reference, spacing=10, radius=8)
    shifted = samples[HOP // 2 :] + noise(10, 7, RATE, level=0.3 * samples.std())[HOP // 2 :]
    query = sub_fingerprints(energies_of(shifted))

    def share(most):
        times, probes = probe_hashes(query, spacing=10, step=2, most=most)
        probed = set(zip(times.tolist(), probes.tolist(), strict=True))
        pairs = list(zip(frames.tolist(), hashes.tolist(), strict=True))
        return np.mean([any((t + d, h) in probed for d in (-1, 0, 1)) for t, h in pairs])

    assert share(50_000) > share(5_000) > 0.05
    assert share(50_000) > 0.2


def test_what_leaks_from_a_lone_tone_is_not_trusted():
    hertz = np.geomspace(350.0, 1900.0, 3 * RATE)
    sweep = (0.5 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)).astype(np.float32)
    energies = energies_of(sweep)
    prints = sub_fingerprints(energies)
    loudest = energies[:-1].argmax(axis=1)
    far = np.abs(np.arange(32) - loudest[:, None]) > 8
    assert np.abs(np.diff(np.log(energies[:, :20]), axis=0)).mean() > 0.01  # but it moves
    assert prints.odds[far].mean() < 0.05
    assert prints.odds[~far].mean() > 0.5
