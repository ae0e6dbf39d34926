"""The LMDB environment of a store: opened once a process, grown, translated into our errors.

Durability: every commit is flushed to the disk before the page that makes it the newest
(``metasync=False`` leaves out only the flush of that page). Killing the process loses nothing that
was committed; a power cut may lose the last commit, and never the environment's integrity.

The data file carries a generation in its name: `compact` writes the next generation beside it, and
readers of the old one go on until they close it.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

import lmdb

from afp.errors import StoreError
from afp.store.lock import ReaderLock
from afp.store.pages import fault_of
from afp.store.records import ANEW, DamagedStoreError

# Address space only where it is plentiful and files are sparse; elsewhere the map grows.
MAP_BYTES = 1 << 40 if sys.platform == "linux" and sys.maxsize > 1 << 32 else 1 << 28
_SMALL_MAP_BYTES = 1 << 28
_MAX_READERS = 1024
_LITTLE_BYTES = 1 << 20  # that are free on a disk which is as good as full
_REWRITTEN_AT_ONCE = 1 << 14  # entries, which lie in memory until they are committed
_TABLE_BYTES = 64 * (_MAX_READERS + 2)  # of readers, with its head

# What LMDB says of pages that make no sense.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.PanicError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
    lmdb.VersionMismatchError,
    lmdb.BadTxnError,  # after one of the others
)

_T = TypeVar("_T")
_open: dict[tuple[int, int], "Environment"] = {}
_guard = threading.RLock()


def data_path(folder: Path, generation: int) -> Path:
    """Return where a generation of the data file is."""
    return folder / f"data-{generation:06d}.mdb"


def lock_path(data: Path) -> Path:
    """Return where LMDB keeps the reader table of a data file."""
    return data.with_name(f"{data.name}-lock")


def generations(folder: Path) -> list[int]:
    """Return the generations that a folder holds, oldest first; a crash may leave two."""
    return sorted(
        int(path.stem.removeprefix("data-"))
        for path in folder.iterdir()  # unlike glob, it tells when the folder cannot be read
        if path.match("data-*.mdb") and path.stem.removeprefix("data-").isdecimal()
    )


_FOREIGN_PAGES = ("LMDB data format", os.strerror(errno.EINVAL))  # what LMDB has no error of


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn what LMDB and the system raise into a `StoreError` with a remedy."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StoreError(
            f"the map of {path} is full", hint="close its readers, try again"
        ) from error
    except lmdb.ReadersFullError as error:
        raise StoreError(f"{path} has too many readers", hint="close some of them") from error
    except _DAMAGE as error:
        raise DamagedStoreError(f"{path} is damaged: {error}", hint=ANEW) from error
    except lmdb.Error as error:
        reason = _reason(path, str(error).removeprefix(f"{path}: "))
        if any(sign in reason for sign in _FOREIGN_PAGES):
            raise DamagedStoreError(f"{path} is damaged: {reason}", hint=ANEW) from error
        hint = _disk_hint(error.args[0] if error.args else 0, reason)
        raise StoreError(f"{path}: {reason}", hint=hint) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{path}: {reason}", hint=_disk_hint(error.errno, reason)) from error


def _reason(path: Path | str, text: str) -> str:
    """Return what LMDB says, but of a write that a full disk took in part what that means."""
    with suppress(OSError):
        if os.strerror(errno.EIO) in text and disk_usage(Path(path).parent).free < _LITTLE_BYTES:
            return os.strerror(errno.ENOSPC)
    return text


def _disk_hint(code: object, text: str) -> str:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    if code in full or any(os.strerror(number) in text for number in full):
        return "make room on the disk, or mend it: what was stored before is still there"
    return "see that the folder is there, and that you may read it and write to it"


class Environment:
    """An LMDB environment shared by all stores of this process that use its file.

    LMDB must not be opened twice in a process, nor used in a child after a fork.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._pid = os.getpid()
        self._users = 1
        self._walked: frozenset[bytes] | None = frozenset()  # tables; None for all
        writable = create or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
        self._reader_lock: ReaderLock | None = None
        if writable:
            _reserve(lock_path(path))
        try:
            self._lmdb = _open_lmdb(path, create=create, readonly=not writable)
        except (lmdb.LockError, lmdb.ReadonlyError):
            if writable:
                raise
            # LMDB cannot enter this reader into its table, so that a writer would not spare it.
            self._reader_lock = ReaderLock(path.parent)
            self._lmdb = _open_lmdb(path, create=False, readonly=True, lock=False)
        try:
            if 0 < self.n_bytes() < self._n_page_bytes():
                # Mostly cut short, which ends who reads on; LMDB may have left out free pages, too.
                self.require_sound()
            if writable:
                self._lmdb.reader_check()
        except BaseException:
            self._close()
            raise

    @classmethod
    def create(cls, path: Path, fill: "Callable[[Environment], object]") -> None:
        """Make a new file; it has its name once it is filled."""
        draft = path.with_suffix(".draft")
        with translated(path):
            draft.unlink(missing_ok=True)  # of one that was killed
            try:
                environment = cls(draft, create=True)
                try:
                    fill(environment)
                    environment.sync()
                finally:
                    environment._close()
                draft.replace(path)
            except BaseException:
                with suppress(OSError):
                    draft.unlink()
                raise
            finally:
                with suppress(OSError):
                    lock_path(draft).unlink()

    @classmethod
    def acquire(cls, path: Path) -> "Environment":
        """Open an environment, or share the one that this process has open."""
        with _guard, translated(path):
            if path.exists():
                shared = _open.get(_identity(path))
                if shared is not None and shared._pid == os.getpid():
                    shared._users += 1
                    return shared
            environment = cls(path)
            _open[_identity(path)] = environment
            return environment

    def share(self) -> "Environment":
        """Take part in it, until `release`."""
        with _guard:
            self._users += 1
            return self

    def release(self) -> None:
        """Close it when this was its last user."""
        with _guard:
            self._users -= 1
            if self._users == 0 and self._pid == os.getpid():
                for key in [key for key, other in _open.items() if other is self]:
                    del _open[key]
                self._close()

    def _close(self) -> None:
        self._lmdb.close()
        if self._reader_lock is not None:
            self._reader_lock.release()

    def replaced(self) -> bool:
        """Tell whether `compact` has put another generation in this one's place."""
        return not self.path.exists()

    def require_sound(self, tables: frozenset[bytes] | None = None) -> None:
        """Walk the pages of tables (by the first bytes of their keys), once; else those of all.

        Raises
        ------
        DamagedStoreError
            When one is damaged, so that LMDB might miss what it holds, or end the process.
        """
        if self._walked is None or (tables is not None and tables <= self._walked):
            return
        # A file that was replaced was walked for that.
        if self.replaced():
            return
        with translated(self.path), self.read() as pin:
            try:
                fault = fault_of(self.path, pin.id(), tables)
            except FileNotFoundError:
                return
        if fault:
            raise DamagedStoreError(f"{self.path} is damaged: {fault}", hint=ANEW)
        self._walked = tables

    def read(self) -> "lmdb.Transaction[Any]":
        """Begin a read transaction."""
        self._require_own_process()
        with translated(self.path):
            try:
                return self._lmdb.begin(buffers=True)
            except lmdb.MapResizedError:  # another process has made the file grow
                self._lmdb.set_mapsize(0)
                return self._lmdb.begin(buffers=True)

    def write(self, change: "Callable[[lmdb.Transaction[Any]], _T]") -> _T:
        """Run `change` in one write transaction; after the map had to grow, once more.

        Pages that a killed reader has kept from being used again are free from now on.
        """
        self._require_own_process()
        while True:
            with translated(self.path):
                try:
                    self._lmdb.reader_check()
                    with self._lmdb.begin(write=True, buffers=True) as txn:
                        return change(txn)
                except lmdb.MapResizedError:
                    self._lmdb.set_mapsize(0)
                except lmdb.MapFullError:
                    self._lmdb.set_mapsize(2 * self._lmdb.info()["map_size"])

    def sync(self) -> None:
        """Make the newest transaction survive a power cut."""
        self._require_own_process()
        with translated(self.path):
            self._lmdb.sync(True)

    def rewrite(self, path: Path) -> None:
        """Make a new file with what this one holds.

        Written in the order of the keys, every page is full; where keys came by chance, they are
        hardly more than half full.

        Raises
        ------
        DamagedStoreError
            When keys are out of order here.
        """
        with translated(self.path), self.read() as source:
            entries = source.cursor()

            def fill(new: "Environment") -> None:
                is_more = entries.first()
                while is_more:
                    n_read, n_put = new.write(partial(_append, entries, bytes(entries.key())))
                    if n_put < n_read:
                        raise DamagedStoreError(
                            f"{self.path} is damaged: its keys are out of order", hint=ANEW
                        )
                    is_more = entries.next()

            Environment.create(path, fill)

    def damage(self) -> list[str]:
        """Walk all pages as they lie in the file, without LMDB; return what is wrong with them."""
        from lmdb import verify

        # The transaction keeps the pages of what is now the newest state from being used again.
        with translated(self.path), self.read() as pin:
            fault = fault_of(self.path, pin.id(), None)
            try:
                # A writer may be at the page that names the newest state: look twice.
                walked = partial(verify.verify, self.path, subdir=False)
                found: list[str] = walked() and walked()
            except verify.VerifyError as error:
                found = [str(error)]
        return found or ([fault] if fault else [])

    def n_bytes(self) -> int:
        """Return the size of the file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:  # replaced, and still open here
            return self._n_page_bytes()

    def free_bytes(self) -> int:
        """Return the size of all pages that hold nothing."""
        stat = self._lmdb.stat()
        used = 2 + stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(self._lmdb.info()["last_pgno"] + 1 - used) * int(stat["psize"])

    def _n_page_bytes(self) -> int:
        """Return the size of all pages up to the last."""
        return int(self._lmdb.info()["last_pgno"] + 1) * int(self._lmdb.stat()["psize"])

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store at {self.path.parent} was opened by process {self._pid}, before a fork",
                hint="open it in the process that uses it",
            )


def _append(
    entries: "lmdb.Cursor[Any]", first: bytes, txn: "lmdb.Transaction[Any]"
) -> tuple[int, int]:
    """Append entries from a key on; return how many were read, and how many were in order.

    May be repeated, after the map had to grow; leaves the cursor at the last.
    """
    entries.set_key(first)
    some = islice(entries.iternext(), _REWRITTEN_AT_ONCE)
    n_read, n_put = txn.cursor().putmulti(some, append=True)
    return n_read, n_put


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _reserve(readers: Path) -> None:
    """Make sure that the table of readers has its place on the disk.

    LMDB makes a file with holes and maps it, so that on a full disk the process would be killed.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    handle = os.open(readers, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        status = os.fstat(handle)
        n_bytes = max(status.st_size, _TABLE_BYTES)
        if 512 * status.st_blocks < n_bytes:
            os.posix_fallocate(handle, 0, n_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # else the file system knows no such call
    finally:
        os.close(handle)  # with our locks on it: no environment of this path is open yet


def _open_lmdb(path: Path, *, create: bool, readonly: bool, lock: bool = True) -> lmdb.Environment:
    def attempt(map_bytes: int) -> lmdb.Environment:
        return lmdb.open(
            os.fsencode(path),  # of a str LMDB takes valid Unicode only
            map_size=map_bytes,
            subdir=False,
            create=create,
            readonly=readonly,
            metasync=False,
            max_readers=_MAX_READERS,
            mode=0o644,
            lock=lock,
        )

    try:
        return attempt(MAP_BYTES)
    except lmdb.MemoryError:  # the address space is limited
        return attempt(max(_SMALL_MAP_BYTES, 2 * path.stat().st_size if path.exists() else 0))
