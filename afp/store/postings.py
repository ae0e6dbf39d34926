"""Posting lists: hashes mixed and sorted, found by directory and remainder, gathered, merged.

A hash is mixed by a bijection first, so that its leading bits are uniform whatever the backend.
The leading `bits` of a mixed hash choose a directory slot; the remainder tells the hashes of a
slot apart (quotienting: slot and remainder together are the whole hash, so no hit is false).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.errors import StoreError
from afp.fingerprint import U32
from afp.store.records import REPLACE

U64 = npt.NDArray[np.uint64]

NARROW_BITS = 16  # with this many directory bits or more, 16-bit remainders suffice
_NARROW_POSTINGS = 1 << 17  # below, a directory of 2**16 slots costs more than wide remainders


def mix(hashes: U32) -> U32:
    """Mix hashes by MurmurHash3's 32-bit finaliser, a bijection."""
    h = hashes.astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


def directory_bits(n_postings: int) -> int:
    """Return how many leading bits the directory of so many postings resolves."""
    if n_postings < _NARROW_POSTINGS:
        return min(max(n_postings >> 3, 2).bit_length() - 1, NARROW_BITS - 1)
    return min(max(NARROW_BITS, (n_postings >> 6).bit_length() - 1), 26)


def remainder_type(bits: int) -> type[np.uint16] | type[np.uint32]:
    """Return the type of the remainders beside a directory of ``2**bits`` slots."""
    return np.uint16 if bits >= NARROW_BITS else np.uint32


@kernel("int64(uint32[::1], uint16[::1], int64, uint32[::1], uint32[::1], uint32[::1])")
def locate_narrow(directory, remainders, bits, hashes, starts, counts):  # type: ignore[no-untyped-def]
    """Find the list of each mixed hash; return how many slots contradict the array's bounds."""
    n = len(remainders)
    damaged = 0
    for i in range(len(hashes)):
        slot = np.int64(hashes[i]) >> (32 - bits)
        wanted = np.int64(hashes[i]) & 0xFFFF
        low = np.int64(directory[slot])
        stop = np.int64(directory[slot + 1])
        if low > stop or stop > n:
            damaged += 1
            starts[i] = 0
            counts[i] = 0
            continue
        high = stop
        while low < high:
            middle = (low + high) >> 1
            if np.int64(remainders[middle]) < wanted:
                low = middle + 1
            else:
                high = middle
        start = low
        # The list's end: gallop, as most lists are short and a few are very long.
        step = 1
        while low < stop and np.int64(remainders[low]) == wanted:
            low += step
            step <<= 1
        high = min(low, stop)
        low = max(start, low - (step >> 1))
        while low < high:
            middle = (low + high) >> 1
            if np.int64(remainders[middle]) == wanted:
                low = middle + 1
            else:
                high = middle
        starts[i] = start
        counts[i] = low - start
    return damaged


@kernel("int64(uint32[::1], uint32[::1], int64, uint32[::1], uint32[::1], uint32[::1])")
def locate_wide(directory, remainders, bits, hashes, starts, counts):  # type: ignore[no-untyped-def]
    """Do as `locate_narrow` where a remainder is the whole mixed hash: slots are short, so scan."""
    n = len(remainders)
    damaged = 0
    for i in range(len(hashes)):
        slot = np.int64(hashes[i]) >> (32 - bits)
        low = np.int64(directory[slot])
        stop = np.int64(directory[slot + 1])
        if low > stop or stop > n:
            damaged += 1
            low = stop
        while low < stop and remainders[low] < hashes[i]:
            low += 1
        high = low
        while high < stop and remainders[high] == hashes[i]:
            high += 1
        starts[i] = low
        counts[i] = high - low
    return damaged


@kernel("int64(uint32[::1], uint32[::1], uint32[::1], uint32[::1], uint32[::1], uint32[::1])")
def gather(positions, starts, counts, kept, rows, out):  # type: ignore[no-untyped-def]
    """Copy the lists of the `kept` rows to `out`; return the largest position."""
    at = 0
    largest = positions[0]
    for k in range(len(kept)):
        row = kept[k]
        start = np.int64(starts[row])
        for i in range(start, start + np.int64(counts[row])):
            rows[at] = row
            out[at] = positions[i]
            largest = max(largest, positions[i])
            at += 1
    return largest


@kernel("void(uint32[::1], uint16[::1], uint32[::1], int64, int64, int64, uint64[::1])")
def expand(directory, remainders, positions, bits, first, last, keys):  # type: ignore[no-untyped-def]
    """Write ``mixed hash << 32 | position`` of the slots ``first <= slot < last`` to `keys`."""
    at = 0
    for slot in range(first, last):
        leading = np.uint64(slot) << np.uint64(32 - bits)
        for i in range(np.int64(directory[slot]), np.int64(directory[slot + 1])):
            hash_ = leading | np.uint64(remainders[i])
            keys[at] = (hash_ << np.uint64(32)) | np.uint64(positions[i])
            at += 1


@kernel("int64(uint64[::1], uint64[::1], int64[:, ::1])")
def radix_sort(keys, scratch, counts):  # type: ignore[no-untyped-def]
    """Sort by the upper 32 bits, stably, in passes of 8 bits; `counts` is (4, 256).

    Returns 0 when the result is in `keys`, 1 when it is in `scratch`.
    """
    counts[:] = 0
    for key in keys:
        for digit in range(4):
            counts[digit, np.int64(key >> np.uint64(32 + 8 * digit)) & 255] += 1
    swapped = 0
    for digit in range(4):
        at = np.int64(0)
        constant = False
        for value in range(256):
            n = counts[digit, value]
            constant = constant or n == len(keys)
            counts[digit, value] = at
            at += n
        if constant:
            continue
        shift = np.uint64(32 + 8 * digit)
        for i in range(len(keys)):
            key = scratch[i] if swapped else keys[i]
            bucket = np.int64(key >> shift) & 255
            if swapped:
                keys[counts[digit, bucket]] = key
            else:
                scratch[counts[digit, bucket]] = key
            counts[digit, bucket] += 1
        swapped = 1 - swapped
    return swapped


def pair(mixed: U32, positions: U32) -> U64:
    """Return the sort key of each posting: mixed hash above, position below."""
    return (mixed.astype(np.uint64) << np.uint64(32)) | positions


def sort(keys: U64) -> U64:
    """Sort keys by hash; those of one hash stay in the order they come in."""
    if len(keys) < 512:
        return keys[np.argsort(keys >> np.uint64(32), kind="stable")]
    scratch = np.empty_like(keys)
    return scratch if radix_sort(keys, scratch, np.empty((4, 256), np.int64)) else keys


def keys_between(keys: U64, first: int, last: int, bits: int) -> U64:
    """Return the stretch of sorted keys whose leading `bits` are in ``first <= x < last``."""
    edges = [min(edge << (64 - bits), (1 << 64) - 1) for edge in (first, last)]
    a, b = np.searchsorted(keys, np.array(edges, np.uint64))
    return keys[a : len(keys) if last == 1 << bits else b]


def slots(mixed: U32, bits: int, first: int, last: int) -> npt.NDArray[np.int64]:
    """Return where the slots ``first <= slot < last`` begin in sorted mixed hashes."""
    edges = np.arange(first, last, dtype=np.uint64) << np.uint64(32 - bits)
    return np.searchsorted(mixed, edges.astype(np.uint32)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Sorted postings with their directory.

    Attributes
    ----------
    bits : int
        Leading bits of a mixed hash that the directory resolves.
    directory : ndarray of uint32, shape (2**bits + 1,)
        Where each slot begins.
    remainders : ndarray of uint16 or uint32, shape (n,)
        Low 16 bits of the mixed hashes, or all 32 of them where ``bits < 16``.
    positions : ndarray of uint32, shape (n,)
        On the time axis, ascending within a hash.
    """

    bits: int
    directory: U32
    remainders: npt.NDArray[np.uint16] | U32
    positions: U32

    def locate(self, mixed: U32) -> tuple[U32, U32]:
        """Return start and length of the list of each mixed hash (m,).

        Raises
        ------
        StoreError
            When the directory is damaged.
        """
        starts, counts = np.empty(len(mixed), np.uint32), np.empty(len(mixed), np.uint32)
        locate = locate_narrow if self.bits >= NARROW_BITS else locate_wide
        if locate(self.directory, self.remainders, self.bits, mixed, starts, counts):
            raise StoreError("a segment's directory is damaged", hint=REPLACE)
        return starts, counts
