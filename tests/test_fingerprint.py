"""Fingerprints: cutting them and joining them again."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.fingerprint import Evidence, Fingerprint, concatenate


@st.composite
def fingerprints(draw, kinds=("hashes", "vectors"), evidence=(False, True)):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_frames = draw(st.integers(0, 60))

    def frames(most):
        n = draw(st.integers(0, most)) if n_frames else 0
        return np.sort(rng.integers(0, max(n_frames, 1), n)).astype(np.uint32)

    def values(n):
        return rng.integers(0, 2**32, n).astype(np.uint32)

    at, seen = frames(40), frames(30)
    postings = (
        {"hashes": values(len(at))}
        if draw(st.sampled_from(kinds)) == "hashes"
        else {"vectors": rng.standard_normal((len(at), 3)).astype(np.float32)}
    )
    kept = Evidence(seen, values(len(seen))) if draw(st.sampled_from(evidence)) else None
    return Fingerprint(n_frames, at, **postings, evidence=kept)


def same_array(one, other):
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def assert_same(one, other):
    assert one.n_frames == other.n_frames
    for name in ("frames", "hashes", "vectors"):
        assert same_array(getattr(one, name), getattr(other, name)), name
    assert (one.evidence is None) == (other.evidence is None)
    if one.evidence is not None:
        assert same_array(one.evidence.frames, other.evidence.frames)
        assert same_array(one.evidence.values, other.evidence.values)


@given(fingerprints(), st.lists(st.integers(0, 70), max_size=6))
def test_pieces_join_to_the_whole(whole, cuts):
    edges = [0, *sorted(min(cut, whole.n_frames) for cut in cuts), whole.n_frames]
    pieces = [whole.cut(a, b) for a, b in pairwise(edges)]
    assert [piece.n_frames for piece in pieces] == np.diff(edges).tolist()
    assert_same(concatenate(pieces), whole)


@given(fingerprints(), st.integers(0, 70), st.integers(0, 70))
def test_a_cut_keeps_what_lies_in_it(whole, start, length):
    piece = whole.cut(start, start + length)
    inside = (whole.frames >= start) & (whole.frames < start + length)
    assert len(piece) == np.count_nonzero(inside)
    np.testing.assert_array_equal(piece.frames.astype(int) + start, whole.frames[inside])
    for name in ("hashes", "vectors"):
        values = getattr(whole, name)
        expected = None if values is None else values[inside]
        assert same_array(getattr(piece, name), expected)
    if whole.evidence is not None:
        seen = (whole.evidence.frames >= start) & (whole.evidence.frames < start + length)
        np.testing.assert_array_equal(
            piece.evidence.frames.astype(int) + start, whole.evidence.frames[seen]
        )
        np.testing.assert_array_equal(piece.evidence.values, whole.evidence.values[seen])
    assert piece.n_frames == max(min(start + length, whole.n_frames) - start, 0)
    assert (piece.frames < max(piece.n_frames, 1)).all()


@given(fingerprints(), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_cut_of_a_cut_is_a_cut(whole, start, inner, length):
    once = whole.cut(start + inner, start + inner + length)
    assert_same(whole.cut(start, whole.n_frames + 100).cut(inner, inner + length), once)


@given(st.lists(fingerprints(kinds=["hashes"], evidence=[True]), min_size=1, max_size=4))
def test_each_part_follows_the_one_before(parts):
    whole = concatenate(parts)
    assert whole.n_frames == sum(part.n_frames for part in parts)
    assert (np.diff(whole.frames.astype(int)) >= 0).all()
    start = 0
    for part in parts:
        assert_same(whole.cut(start, start + part.n_frames), part)
        start += part.n_frames


@given(fingerprints())
def test_the_whole_is_a_cut_and_a_concatenation_of_itself(whole):
    assert_same(whole.cut(0, whole.n_frames), whole)
    assert_same(concatenate([whole]), whole)


def test_a_fingerprint_is_frozen():
    with pytest.raises(AttributeError, match="n_frames"):
        Fingerprint(0, np.empty(0, np.uint32)).n_frames = 3
