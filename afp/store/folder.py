"""The folder of a store: made, recognised, opened at its newest generation, swept."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afp.errors import StoreError
from afp.store import records
from afp.store.catalogue import Catalogue
from afp.store.environment import (
    Environment,
    data_path,
    generations,
    lock_path,
    translated,
)
from afp.store.lock import LOCK_NAME
from afp.store.manifest import read_manifest
from afp.store.records import DamagedStoreError
from afp.store.segment import segment_path
from afp.store.segment_writer import sync_folder

if TYPE_CHECKING:
    import lmdb

FORMAT = 1
SEGMENTS = "segments"
ATTEMPTS = 100  # to overtake a writer that replaces files while they are being opened
_HEADER = b"store"


def _named_segments(folder: Path, catalogue: Catalogue) -> set[Path]:
    return {
        segment_path(folder, segment.id)
        for backend in catalogue.backends().values()
        for segment in read_manifest(catalogue, backend.id).segments
    }


def prepare_folder(path: Path) -> None:
    """Make the folder of a store.

    Raises
    ------
    StoreError
        When it holds something else.
    """
    path.mkdir(parents=True, exist_ok=True)
    strange = [
        entry.name
        for entry in path.iterdir()
        if entry.name not in (LOCK_NAME, SEGMENTS) and not entry.name.startswith("data-")
    ]
    if generations(path):
        return
    if strange:
        raise StoreError(
            f"{path} is no afp store: it holds {strange[0]!r}",
            hint="name an empty or a new folder with --db",
        )
    _require_catalogue(path)


def _require_catalogue(path: Path) -> None:
    """Tell a folder whose catalogue is missing from one that is no store yet."""
    if any((path / SEGMENTS).glob("*.segment")):
        raise DamagedStoreError(
            f"{path} has lost its catalogue, data-*.mdb",
            hint=f"restore it from a backup; without one, {records.ANEW}",
        )


def create(path: Path) -> None:
    """Make an empty store in a folder, unless it holds one."""
    with translated(path):
        (path / SEGMENTS).mkdir(exist_ok=True)
        if not generations(path):
            Environment.create(data_path(path, 1), lambda new: new.write(_write_header))
            sync_folder(path)


def sweep(path: Path, catalogue: Catalogue) -> None:
    """Delete what a killed writer left: older generations, drafts, segments of no manifest.

    Files with names of another kind stay, such as those that some systems put beside each file.
    """
    named = _named_segments(path / SEGMENTS, catalogue)
    with translated(path):
        newest = data_path(path, generations(path)[-1])
        for file in path.glob("data-*"):
            if file not in (newest, lock_path(newest)):
                file.unlink()
        for file in (path / SEGMENTS).iterdir():
            ours = file.suffix in (".segment", ".draft") and file.stem.isdecimal()
            if ours and file not in named:
                file.unlink()


def open_newest(path: Path) -> Environment:
    """Open the newest generation of a store; `require_format` tells whether to read on.

    No page of it is read here, so that damage there does not keep `check` from telling.
    """
    for _ in range(ATTEMPTS):
        with translated(path):
            if not path.exists():
                raise StoreError(f"there is no store at {path}", hint="run `afp index` first")
            if not path.is_dir() or not generations(path):
                _require_catalogue(path)
                raise StoreError(f"{path} holds no afp store", hint="run `afp index` first")
            newest = data_path(path, generations(path)[-1])
        try:
            environment = Environment.acquire(newest)
        except StoreError:
            if newest.exists():
                raise  # otherwise compacted meanwhile
            continue
        # LMDB makes a file that has gone anew, empty: so it may be when there is a newer one.
        with translated(path):
            if data_path(path, generations(path)[-1]) == newest:
                return environment
        environment.release()
    raise StoreError(f"{path} changes too fast to be opened", hint="try again")


def _write_header(txn: "lmdb.Transaction[Any]") -> None:
    header = {"format": FORMAT, "byte_order": sys.byteorder}
    Catalogue(txn).put("header", _HEADER, records.to_json(header))


def require_format(catalogue: Catalogue, path: Path) -> None:
    """Refuse a store that another format, or another kind of machine, has written.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    payload = catalogue.get("header", _HEADER)
    if payload is None:
        raise DamagedStoreError(f"{path} has no header", hint=records.ANEW)
    header = records.from_json(payload)
    if header["format"] > FORMAT:
        raise StoreError(
            f"{path} has format {header['format']}, and this afp reads up to {FORMAT}",
            hint="update afp",
        )
    # There is no older format yet. Whoever raises FORMAT lets these go on to a reader of theirs
    # here, or has `Store.open` upgrade them: the stores in tests/golden have to open for ever.
    if header["format"] < FORMAT:
        raise StoreError(
            f"{path} has format {header['format']}, and this afp reads format {FORMAT}",
            hint="index the files anew, into another folder",
        )
    if header["byte_order"] != sys.byteorder:
        raise StoreError(
            f"{path} was written on a {header['byte_order']}-endian machine, this one is "
            f"{sys.byteorder}-endian",
            hint="index the files on this machine",
        )
