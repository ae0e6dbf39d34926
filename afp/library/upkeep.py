"""Keep a store in step with the files that it was made from."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from afp.errors import UsageError
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
    """

    paths: list[str]
    tracks: list[Track]


def find_vanished(snapshot: Snapshot) -> Vanished:
    """List the paths and tracks of a store whose files are gone.

    A file that cannot be looked at (no permission, an input/output error) is not gone.
    """
    paths = snapshot.paths()
    gone = sorted(path for path in paths if _is_gone(Path(path)))
    left = Counter(entry.track_id for entry in paths.values())
    left.subtract(paths[path].track_id for path in gone)
    return Vanished(
        paths=gone,
        tracks=[snapshot.track(track_id) for track_id, n in sorted(left.items()) if not n],
    )


def prune(store: Store, *, dry_run: bool = False, force: bool = False) -> Vanished:
    """Remove what `find_vanished` finds.

    Parameters
    ----------
    store : Store
        Open for writing, unless it is a dry run.
    dry_run : bool
        Only say what would go.
    force : bool
        Also when it looks as if a disk were not mounted.

    Raises
    ------
    UsageError
        When most files are gone, or those below an empty folder or a missing mount point.
    """
    with store.snapshot() as snapshot:
        vanished = find_vanished(snapshot)
        n_paths = len(snapshot.paths())
    if not force and not dry_run:
        _refuse_unmounted(vanished.paths, n_paths)
    if not dry_run:
        for path in vanished.paths:
            store.forget_path(path)
    return vanished


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _refuse_unmounted(gone: Iterable[str], n_paths: int) -> None:
    gone = list(gone)
    hint = "mount the disk that they are on, or, when they are really gone: afp prune --force"
    for folder in {Path(path).parent for path in gone}:
        existing = next(parent for parent in (folder, *folder.parents) if not _is_gone(parent))
        unmounted = {existing, existing.parent} & MOUNT_PARENTS or not any(existing.iterdir())
        if unmounted and existing.is_dir():
            raise UsageError(f"{folder} is missing or empty: is a disk not mounted?", hint=hint)
    if 2 * len(gone) > n_paths:
        raise UsageError(f"{len(gone)} of {n_paths} files are missing", hint=hint)
