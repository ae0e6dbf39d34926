"""Keep a store in step with the files that it was made from."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from afp.errors import StoreError
from afp.fingerprint import Track
from afp.store import Snapshot, Store

MOUNT_PARENTS = frozenset(map(Path, ("/", "/mnt", "/media", "/run/media", "/Volumes")))


def open_existing(path: Path, *, write: bool = False, wait_seconds: float = 0.0) -> Store:
    """Open a store that is there; to write to it does not make one.

    Raises
    ------
    StoreError
        When there is none, or it cannot be used.
    """
    if write:
        Store.open(path).close()
    return Store.open(path, write=write, wait_seconds=wait_seconds)


@dataclass(frozen=True, slots=True)
class Vanished:
    """What `prune` removes.

    Attributes
    ----------
    paths : list of str
        Paths at which there is no file any more.
    tracks : list of Track
        Tracks that have no other path.
    failures : list of str
        Paths of files that could not be indexed and are gone as well.
    refusal : StoreError or None
        Why `prune` would not remove them.
    """

    paths: list[str]
    tracks: list[Track]
    failures: list[str]
    refusal: StoreError | None = None


def find_vanished(snapshot: Snapshot) -> Vanished:
    """List the paths, tracks and failures of a store whose files are gone; see `is_gone`."""
    paths = snapshot.paths()
    gone = sorted(path for path in paths if is_gone(path))
    left = Counter(entry.track_id for entry in paths.values())
    left.subtract(paths[path].track_id for path in gone)
    return Vanished(
        paths=gone,
        tracks=[snapshot.track(track_id) for track_id, n in sorted(left.items()) if not n],
        failures=sorted(failure.path for failure in snapshot.failures() if is_gone(failure.path)),
    )


def prune(store: Store, *, dry_run: bool = False, force: bool = False) -> Vanished:
    """Remove what `find_vanished` finds.

    Parameters
    ----------
    store : Store
        Open for writing, unless it is a dry run.
    dry_run : bool
        Only say what would go, and in `Vanished.refusal` whether it would be refused.
    force : bool
        Also when it looks as if a disk were not mounted.

    Raises
    ------
    StoreError
        When it is no dry run and most files are gone, or all those below a folder that looks
        like an empty or missing mount point.
    """
    with store.snapshot() as snapshot:
        vanished = find_vanished(snapshot)
        n_paths = len(snapshot.paths())
    refusal = None if force else _refusal(vanished.paths, n_paths)
    if dry_run:
        return replace(vanished, refusal=refusal)
    if refusal is not None:
        raise refusal
    store.forget_paths([*vanished.paths, *vanished.failures])
    return vanished


def is_gone(path: str) -> bool:
    """Tell whether there is nothing at a path.

    What cannot be looked at (no permission, an input/output error) is not gone, nor is a link
    that leads nowhere: the disk behind it may come back.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _refusal(gone: Sequence[str], n_paths: int) -> StoreError | None:
    """Say that a disk seems not to be mounted, when so."""
    hint = "mount the disk that they are on, or, when they are really gone: afp prune --force"
    folders_below: dict[Path, set[Path]] = defaultdict(set)
    for folder in {Path(path).parent for path in gone}:
        existing = next(parent for parent in (folder, *folder.parents) if not is_gone(str(parent)))
        folders_below[existing].add(folder)
    for existing, folders in sorted(folders_below.items()):
        if existing in MOUNT_PARENTS:
            unmounted = folders != {existing}
        else:
            # One album that was emptied is no disk; a mount point is empty, and much is missing.
            below_mount_parent = existing.parent in MOUNT_PARENTS
            unmounted = (below_mount_parent or len(folders) > 1) and _is_empty_folder(existing)
        if unmounted:
            folder = min(folders)
            return StoreError(f"{folder} is missing or empty: is a disk not mounted?", hint=hint)
    if 2 * len(gone) > n_paths:
        return StoreError(f"{len(gone)} of {n_paths} files are missing", hint=hint)
    return None


def _is_empty_folder(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False
