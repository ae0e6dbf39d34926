"""The pages of an LMDB file, walked before LMDB follows them.

LMDB trusts its pages: in a damaged one it may miss a key, or be led out of the file, where the
system ends the process. `lmdb.verify` walks a whole file in Python, a second for some 100,000
keys; this walk takes a hundredth of that, and can keep to the tables that matter.

The layout is that of LMDB 0.9 on 64 bits. A page begins with its number (8 bytes), flags (at 10)
and the bounds of its free space (at 12 and 14); then come the slots, each the place of a node. A
node is a size (4 bytes), flags, the length of its key, the key, and a value or where that is; of
a branch, size and flags are the number of a page whose keys begin with that of the node.
"""

import mmap
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from afp.compiled import kernel

_DEEPEST = 32
_NO_PAGE = (1 << 64) - 1
# Of a meta page: magic, version, page size; of the main table depth, branch, leaf and overflow
# pages, entries and root; last page, transaction.
_META = struct.Struct("<16xII16xI50xHQQQQQQQ")
_FIRST_BYTES = 1 << 17  # in which both meta pages are


@kernel(
    "int64(uint8[::1], uint16[::1], int64, int64, int64, boolean[::1], int64[:, ::1], int64[::1])"
)
def walk(  # type: ignore[no-untyped-def]  # noqa: PLR0911, PLR0912, PLR0915 - a tree of one piece
    memory, halves, page_bytes, root, n_pages, wanted, stack, found
):
    """Walk the pages that may have keys with a `wanted` first byte; return the first bad, or -1.

    `halves` is `memory` two bytes at a time. `stack` is for the way down: page, next slot, number
    of slots, whether a branch. `found` gets depth, branch, leaf and overflow pages, and entries.
    """
    found[:] = 0
    top = np.int64(-1)
    page, is_entering = root, True
    last_key, last_length, is_strict = np.int64(0), np.int64(0), False
    while True:
        at = page * page_bytes
        if is_entering:
            if page < 2 or page >= n_pages or top + 1 == len(stack):
                return stack[top, 0] if top >= 0 else root
            here = at >> 1
            number = np.int64(halves[here + 1]) << 16 | np.int64(halves[here])
            flags = np.int64(halves[here + 5])
            lower, upper = np.int64(halves[here + 6]), np.int64(halves[here + 7])
            if number != page or halves[here + 2] or halves[here + 3]:
                return page
            if flags not in (1, 2) or lower & 1 or lower > upper or upper > page_bytes:
                return page
            n = (lower - 16) >> 1
            if n < 3 - flags:  # a branch has two at least
                return page
            found[flags] += 1
            if found[1] + found[2] > n_pages:
                return page
            top += 1
            found[0] = max(found[0], top + 1)
            stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = page, 0, n, flags & 1
            is_entering = False
        page, slot, n, is_branch = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        if slot == n:
            top -= 1
            if top < 0:
                return -1
            page = stack[top, 0]
            continue
        stack[top, 1] = slot + 1
        at = page * page_bytes
        here = (at >> 1) + 8 + slot
        place = np.int64(halves[here])
        if place < np.int64(halves[(at >> 1) + 7]) or place & 1 or place + 8 > page_bytes:
            return page
        node = (at + place) >> 1
        size = np.int64(halves[node + 1]) << 16 | np.int64(halves[node])
        flags, length = np.int64(halves[node + 2]), np.int64(halves[node + 3])
        key = at + place + 8
        end = place + 8 + length
        if end > page_bytes:
            return page
        if not is_branch or slot:  # the first key of a branch is not used
            difference = np.int64(0)
            for i in range(min(length, last_length)):
                difference = np.int64(memory[key + i]) - np.int64(memory[last_key + i])
                if difference:
                    break
            if difference == 0:
                difference = length - last_length
            if difference < 0 or (difference == 0 and is_strict):
                return page
            last_key, last_length, is_strict = key, length, is_branch == 0
        if is_branch:
            first, last = np.int64(0), np.int64(255)
            if last_length:
                first = np.int64(memory[last_key])
            if slot + 1 < n:
                following = np.int64(halves[here + 1])
                if following + 8 >= page_bytes:
                    return page
                last = np.int64(memory[at + following + 8])
            for byte in range(first, last + 1):
                is_entering = is_entering or wanted[byte]
            if is_entering:
                page = size | flags << 32
            continue
        found[4] += 1
        if length == 0 or flags > 1 or end + (8 if flags else size) > page_bytes:
            return page
        if flags:  # the value lies in pages of its own
            first = np.int64(0)
            for i in range(8):
                first |= np.int64(memory[at + end + i]) << (8 * i)
            n_large = (size + 15) // page_bytes + 1
            if first < 2 or first >= n_pages or first + n_large > n_pages:
                return page
            here = first * page_bytes >> 1
            number = np.int64(halves[here + 1]) << 16 | np.int64(halves[here])
            counted = np.int64(halves[here + 7]) << 16 | np.int64(halves[here + 6])
            if number != first or halves[here + 5] != 4 or counted != n_large:
                return first
            found[3] += n_large


def fault_of(path: Path, txn_id: int, tables: Iterable[bytes] | None) -> str:
    """Return what is wrong with the pages of a state, or an empty string.

    Parameters
    ----------
    path : Path
        The data file.
    txn_id : int
        Of a transaction that is open, so that no page of its state is used again.
    tables : iterable of bytes, optional
        The first bytes of the keys that matter; else all do, and are counted.
    """
    if sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return ""  # pages of another layout, that `check` walks
    with path.open("rb") as file:
        for _ in range(3):  # a commit may be under way
            if metas := _metas(os.pread(file.fileno(), _FIRST_BYTES, 0)):
                break
        else:
            return "its first pages are damaged"
        _, _, page_bytes, *counts, root, last_page, newest = metas[txn_id & 1]
        n_pages = min(last_page + 1, os.fstat(file.fileno()).st_size // page_bytes)
        is_short = n_pages <= last_page
        if is_short:
            # LMDB leaves pages at the end unwritten that one transaction has taken and given back.
            # That no other is missing is seen by a walk of all.
            tables = None
        if newest != txn_id or root == _NO_PAGE:
            # Two commits later already, of a store that was walked before; or an empty one.
            return "its tables are lost" if newest == txn_id and counts[-1] else ""
        wanted = np.full(256, tables is None)
        wanted[[table[0] for table in tables or ()]] = True
        stack, found = np.empty((_DEEPEST, 4), np.int64), np.empty(5, np.int64)
        # Closed with its last view: a signal may come in between.
        mapped = mmap.mmap(file.fileno(), n_pages * page_bytes, access=mmap.ACCESS_READ)
        memory = np.frombuffer(mapped, np.uint8)
        halves = memory.view(np.uint16)
        bad = walk(memory, halves, page_bytes, root, n_pages, wanted, stack, found)
    if bad >= 0:
        return "it is cut short" if is_short else f"page {bad} is damaged"
    differs = tables is None and found.tolist() != counts
    return f"it holds {found.tolist()} where it counts {counts}" if differs else ""


def _metas(start: bytes) -> list[tuple[int, ...]] | None:
    """Return both meta pages, or None where they cannot be what LMDB wrote."""
    first = _META.unpack_from(start)
    page_bytes = first[2]
    if page_bytes < 512 or page_bytes & (page_bytes - 1) or 2 * page_bytes > len(start):
        return None
    metas = [first, _META.unpack_from(start, page_bytes)]
    ids = [meta[-1] for meta in metas]
    alike = metas[0][:3] == metas[1][:3] and all(
        meta[3] <= _DEEPEST and (meta[-3] <= meta[-2] or meta[-3] == _NO_PAGE) for meta in metas
    )
    # A transaction writes the page that its number's last bit names: the numbers are neighbours.
    follow = ids == [0, 0] or (abs(ids[0] - ids[1]) == 1 and ids[0] % 2 == 0)
    return metas if alike and follow else None
