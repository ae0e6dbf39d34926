"""Kernels of the store against naive twins, and fingerprints as bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.errors import StoreError
from afp.fingerprint import Evidence, Fingerprint
from afp.store import packing, postings
from afp.store.axis import Axis
from afp.store.manifest import EAGER_POSTINGS, FAN_OUT, Manifest
from afp.store.postings import Run
from afp.store.segment import SegmentRecord
from afp.store.tails import Tail

seeds = st.integers(0, 2**32 - 1)


def random_keys(seed, n, n_hashes):
    """Sorted keys with few distinct hashes, so that lists are long and short."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**32, n_hashes).astype(np.uint32)
    return np.sort(
        postings.pair(rng.choice(hashes, n), rng.integers(0, 2**32, n).astype(np.uint32))
    )


def run_of(keys, bits):
    mixed = (keys >> np.uint64(32)).astype(np.uint32)
    edges = postings.slots(mixed, bits, 0, 1 << bits).astype(np.uint32)
    return Run(
        bits,
        np.append(edges, np.uint32(len(keys))),
        mixed.astype(postings.remainder_type(bits)),
        keys.astype(np.uint32),
    )


def naive_mix(h):
    """MurmurHash3's fmix32 in Python integers."""
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_mix_is_fmix32(values):
    mixed = postings.mix(np.array(values, np.uint32))
    assert mixed.tolist() == [naive_mix(value) for value in values]


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([0, 1, 7, 300, 5000]), st.sampled_from([1, 5, 1000]))
@pytest.mark.parametrize("bits", [1, 9, 15, 16, 18])
def test_locate_and_gather_find_what_a_scan_finds(bits, seed, n, n_hashes):
    keys = random_keys(seed, n, n_hashes)
    run = run_of(keys, bits)
    mixed, positions = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32)
    rng = np.random.default_rng(seed + 1)
    near = mixed[:50] ^ np.uint32(1 << 20)  # other slots and equal remainders
    query = np.concatenate([mixed[:50], near, rng.integers(0, 2**32, 50).astype(np.uint32)])
    starts, counts = run.locate(query)
    for wanted, start, count in zip(query, starts, counts, strict=True):
        assert positions[start : start + count].tolist() == positions[mixed == wanted].tolist()

    kept = np.flatnonzero(rng.random(len(query)) < 0.5).astype(np.uint32)
    size = int(counts[kept].sum())
    rows, out = np.empty(size, np.uint32), np.empty(size, np.uint32)
    if size:
        assert postings.gather(run.positions, starts, counts, kept, rows, out) == max(
            int(out.max()), int(positions[0])
        )
    naive = [(row, p) for row in kept for p in positions[mixed == query[row]]]
    assert list(zip(rows.tolist(), out.tolist(), strict=True)) == naive


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([1, 300, 5000]), st.sampled_from([3, 1000]))
def test_expand_gives_the_keys_back(seed, n, n_hashes):
    keys = random_keys(seed, n, n_hashes)
    run = run_of(keys, 17)
    first, last = 1 << 15, 3 << 15
    a, b = run.directory[first], run.directory[last]
    out = np.empty(int(b) - int(a), np.uint64)
    postings.expand(run.directory, run.remainders, run.positions, 17, first, last, out)
    assert out.tolist() == keys[a:b].tolist()
    assert postings.keys_between(keys, 1, 3, 2).tolist() == out.tolist()
    halves = [postings.keys_between(keys, 0, 1, 1), postings.keys_between(keys, 1, 2, 1)]
    assert np.concatenate(halves).tolist() == keys.tolist()


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([0, 1, 511, 512, 4000]), st.sampled_from([8, 20, 32]))
def test_sort_is_stable_by_hash(seed, n, hash_bits):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**hash_bits, n).astype(np.uint64) << np.uint64(32)
    keys |= rng.integers(0, 2**32, n).astype(np.uint64)
    expected = sorted(keys.tolist(), key=lambda key: key >> 32)
    assert postings.sort(keys).tolist() == expected


def test_a_damaged_directory_is_an_error_and_no_crash():
    keys = random_keys(3, 5000, 1000)
    for bits in (12, 16):
        run = run_of(keys, bits)
        run.directory[:] = 0xFFFFFFFF
        with pytest.raises(StoreError, match="directory is damaged"):
            run.locate((keys >> np.uint64(32)).astype(np.uint32)[:9])


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(0, 300), st.integers(0, 32), st.integers(0, 24), st.booleans())
def test_fingerprints_survive_packing(seed, n, value_bits, frame_bits, with_evidence):
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.integers(0, 2**frame_bits, n)).astype(np.uint32)
    values = rng.integers(0, 2**value_bits, n).astype(np.uint32)
    if with_evidence:
        empty = np.empty(0, np.uint32)
        fingerprint = Fingerprint(1 << 24, empty, empty, evidence=Evidence(frames, values))
    else:
        fingerprint = Fingerprint(1 << 24, frames, values)
    evidence, n_frames = packing.unpack(memoryview(packing.pack(fingerprint)))
    assert n_frames == 1 << 24
    assert evidence.frames.dtype == evidence.values.dtype == np.uint32
    assert evidence.frames.tolist() == frames.tolist()
    assert evidence.values.tolist() == values.tolist()


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 3000), st.floats(0.0, 0.3))
def test_values_that_differ_in_few_bits_are_packed_as_differences(seed, n, rate):
    rng = np.random.default_rng(seed)
    flips = np.packbits(rng.random((n, 32)) < rate, axis=1).view(np.uint32).ravel()
    flips[0] = rng.integers(0, 2**32)
    values = np.bitwise_xor.accumulate(flips)
    frames, empty = np.arange(n, dtype=np.uint32), np.empty(0, np.uint32)
    fingerprint = Fingerprint(n, empty, empty, evidence=Evidence(frames, values))
    packed = packing.pack(fingerprint)
    evidence, _ = packing.unpack(memoryview(packed))
    assert evidence.values.tolist() == values.tolist()
    assert evidence.frames.tolist() == frames.tolist()
    if rate < 0.1 and n > 1000:
        assert len(packed) < 0.6 * 4 * n


def test_strided_values_are_packed_like_others():
    pairs = np.arange(40, dtype=np.uint32).reshape(20, 2)
    strided, plain = (
        Fingerprint(20, frames[:0], frames[:0], evidence=Evidence(frames, values))
        for frames, values in [
            (pairs[:, 0], pairs[:, 1]),
            (pairs[:, 0].copy(), pairs[:, 1].copy()),
        ]
    )
    assert packing.pack(strided) == packing.pack(plain)


def test_a_coding_of_a_later_version_is_refused():
    values = np.arange(9, dtype=np.uint32)
    packed = bytearray(packing.pack(Fingerprint(9, values, values)))
    packed[3] = 7
    with pytest.raises(StoreError, match=r"coded in a way \(7\)"):
        packing.unpack(memoryview(packed))


@settings(max_examples=50, deadline=None)
@given(seeds, st.sampled_from([0, 1, 300, 70_000]), st.sampled_from([1, 65_536, 65_537, 2**31]))
def test_tails_survive_packing(seed, n, n_frames):
    rng = np.random.default_rng(seed)
    mixed = np.sort(rng.integers(0, 2**32, n)).astype(np.uint32)
    frames = rng.integers(0, n_frames, n).astype(np.uint32)
    tail = Tail(2**40, 77, n_frames, mixed, frames, rng.bytes(n // 9))
    packed = tail.pack()
    assert len(packed) <= 1100 + (5 if n_frames <= 65_536 else 7) * n + n // 9
    back = Tail.unpack(memoryview(packed))
    assert (back.track_id, back.base, back.n_frames) == (2**40, 77, n_frames)
    assert np.array_equal(back.mixed, mixed)
    assert np.array_equal(back.frames, tail.frames)
    assert back.fingerprint == tail.fingerprint
    with pytest.raises(StoreError, match="cannot be unpacked"):
        Tail.unpack(memoryview(packed)[: len(packed) - n // 9 - 1])


def test_a_constellation_takes_two_bytes_a_peak():
    rng = np.random.default_rng(0)
    frames = np.sort(rng.integers(0, 7500, 4500)).astype(np.uint32)
    empty = np.empty(0, np.uint32)
    evidence = Evidence(frames, rng.integers(0, 1024, 4500).astype(np.uint32))
    packed = packing.pack(Fingerprint(7500, empty, empty, evidence=evidence))
    assert len(packed) <= 2 * 4500


def test_a_cut_fingerprint_is_an_error():
    values = np.arange(100, dtype=np.uint32)
    packed = packing.pack(Fingerprint(100, values, values))
    for length in range(len(packed)):
        with pytest.raises(StoreError, match="cannot be unpacked"):
            packing.unpack(memoryview(packed)[:length])


@given(st.lists(st.integers(0, 2**40), unique=True))
def test_an_axis_finds_its_tracks(ids):
    axis = Axis.lay(ids, [1] * len(ids), [0] * len(ids), [0] * len(ids))
    assert [axis.find(track_id) for track_id in ids] == list(range(len(ids)))
    for track_id in {-1, 2**41, *(track_id + 1 for track_id in ids)} - set(ids):
        assert axis.find(track_id) is None


def segment_record(number, n_postings, n_frames=1):
    return SegmentRecord(number, 1, n_postings, n_frames, 0, 0, 0, 0, 0.0)


def segments(*sizes):
    return Manifest([segment_record(i, n) for i, n in enumerate(sizes)])


@pytest.mark.parametrize(
    ("sizes", "due"),
    [
        ([], None),
        ([100] * (FAN_OUT - 1), None),
        ([100] * FAN_OUT, (0, FAN_OUT)),
        ([1 << 24] * 7 + [100] * 7, None),
        ([1 << 24] * 7 + [100] * 8, (7, 15)),
        ([1 << 24] * 3 + [100] * 5 + [1 << 24], (0, 9)),
    ],
)
def test_segments_merge_by_tier(sizes, due):
    assert segments(*sizes).due_merge() == due


def test_segments_merge_around_damaged_ones():
    many = segments(*[100] * (2 * FAN_OUT))
    assert many.due_merge({3}) == (4, 2 * FAN_OUT)
    assert many.due_merge({0, 2 * FAN_OUT - 1}) == (1, 2 * FAN_OUT - 1)
    assert many.due_merge({3, FAN_OUT + 3}) is None
    assert many.due_merge_at_rest({1}) == (2, 2 * FAN_OUT)
    assert many.due_merge_at_rest({2}) == (0, 2)
    assert segments(100, 100, 100).due_merge_at_rest({1}) is None


def test_segments_that_fill_an_axis_are_left_alone():
    full = Manifest([segment_record(i, 100, (1 << 31) + 9) for i in range(20)])
    assert full.due_merge() is full.due_merge_at_rest() is None
    half = Manifest([segment_record(i, 100, (1 << 31) - 9000) for i in range(8)])
    assert half.due_merge() == half.due_merge_at_rest() == (0, 2)


@pytest.mark.parametrize(
    ("sizes", "due"),
    [
        ([], None),
        ([100], None),
        ([0, 0], (0, 2)),
        ([500, 100, 100], (0, 3)),
        ([100_000, 1], (0, 2)),
        ([1_000_000, 100_000], None),
        ([1_000_000, 100_000, 20_000], (0, 3)),
        ([EAGER_POSTINGS // 2, EAGER_POSTINGS // 2], None),
        ([EAGER_POSTINGS // 2, EAGER_POSTINGS // 2 - 1], (0, 2)),
    ],
)
def test_small_indexes_end_a_run_as_one_segment(sizes, due):
    assert segments(*sizes).due_merge_at_rest() == due


def test_adding_one_by_one_does_not_rewrite_all_each_time():
    sizes, rewritten = [1_000_000], 0
    for _ in range(500):
        sizes.append(10_000)
        if (due := segments(*sizes).due_merge_at_rest() or segments(*sizes).due_merge()) is None:
            continue
        start, stop = due
        rewritten += sum(sizes[start:stop])
        sizes[start:stop] = [sum(sizes[start:stop])]
    assert rewritten / (500 * 10_000) < 15
