"""``afp doctor``."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import click

from afp import __version__
from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import AfpError, ExitCode

PACKAGES = (
    *("numpy", "numba", "llvmlite", "scipy", "lmdb", "soundfile", "soxr", "onnxruntime"),
    *("tinytag", "rich"),
)
FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")
LOW_DISK_BYTES = 1e9


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    what : str
        Its name.
    state : str
        ``ok``, ``note`` (works without it) or ``broken``.
    text : str
        How it is, and what to do about it.
    """

    what: str
    state: str
    text: str


@click.command(
    cls=Command,
    examples=("afp doctor",),
    exit_statuses={0: "It does.", 1: "Something is broken."},
)
@options.store
@options.json
def command(*, store_path: Path, as_json: bool) -> None:
    """Tell whether everything that afp needs works here."""
    broken = False
    for finding in _findings(store_path):
        broken |= finding.state == "broken"
        if as_json:
            terminal.json_line(finding._asdict())
        else:
            terminal.line(f"{finding.state:>6}  {finding.what}: {finding.text}")
    if broken:
        raise SystemExit(ExitCode.NO_MATCH)


def _findings(store_path: Path) -> Iterator[Finding]:
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("afp", "ok", f"{__version__}, {implementation}, {platform.platform()}")
    yield from _backends()
    yield _kernels()
    for package in PACKAGES:
        yield _package(package)
    yield _libsndfile()
    yield _ffmpeg()
    yield from _store(store_path)
    yield _disk(store_path)


def _package(name: str) -> Finding:
    try:
        importlib.import_module(name)
        return Finding(name, "ok", metadata.version(name))
    except Exception as error:
        return Finding(name, "broken", f"{error}; reinstall afp: pip install --force-reinstall afp")


def _libsndfile() -> Finding:
    try:
        soundfile = importlib.import_module("soundfile")
    except Exception as error:
        return Finding("libsndfile", "broken", str(error))
    formats = soundfile.available_formats()
    version = soundfile.__libsndfile_version__
    missing = [name for name in FORMATS if name not in formats]
    if "OGG" in formats and "OPUS" not in soundfile.available_subtypes("OGG"):
        missing.append("OPUS")
    if missing:
        return Finding("libsndfile", "note", f"{version} cannot read {', '.join(missing)}")
    return Finding(
        "libsndfile", "ok", f"{version}, {len(formats)} formats, MP3 and Opus among them"
    )


def _ffmpeg() -> Finding:
    program = shutil.which("ffmpeg")
    if program is None:
        return Finding("ffmpeg", "note", "not on the PATH; m4a, wma and broken files need it")
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("ffmpeg", "note", f"{program} does not run: {error}")
    return Finding("ffmpeg", "ok", f"{program}, {answer.stdout.partition(' Copyright')[0]}")


def _backends() -> Iterator[Finding]:
    from afp.backends import create, names

    for name in names():
        try:
            backend = create(name)
        except Exception as error:
            yield Finding(f"backend {name}", "broken", str(error))
        else:
            yield Finding(f"backend {name}", "ok", f"version {backend.version}")


def _kernels() -> Finding:
    from afp.compiled import cache_directory, prepare

    try:
        importlib.import_module("afp.store")  # `_backends` has imported what else has kernels
        prepare()
    except Exception as error:
        return Finding("kernels", "broken", f"cannot be compiled: {error}")
    compiled, cache = "numba.core" in sys.modules, cache_directory()
    if cache is None and compiled:
        advice = "set AFP_CACHE to a folder that can be written to"
        return Finding("kernels", "broken", f"compiled anew in each process; {advice}")
    loaded = "numba was needed" if compiled else "loaded from the cache"
    return Finding("kernels", "ok", f"{loaded}; cache: {cache or 'cannot be written to'}")


def _store(path: Path) -> Iterator[Finding]:
    from afp.library.choice import backend_of_store
    from afp.library.upkeep import is_gone
    from afp.store import Store

    if is_gone(os.fspath(path)):
        yield Finding("store", "note", f"none at {path} yet; afp index makes it")
        return
    try:
        with Store.open(path) as store:
            faults = store.check()
            size = store.n_bytes()
            backends = sorted(store.backends())
            with store.snapshot() as snapshot:
                tracks = terminal.count(len(snapshot), "track")
            for backend in backends:
                try:
                    backend_of_store(store, backend)
                except AfpError as error:
                    faults.append(f"{error}; {error.hint}")
                except Exception as error:  # a plug-in may raise anything when it is imported
                    faults.append(f"backend {backend!r}: {error}")
    except AfpError as error:
        yield Finding("store", "broken", f"{error}; {error.hint}")
        return
    yield Finding(
        "store",
        "ok",
        f"{path}: {tracks}, {terminal.size(size)}, backends: {', '.join(backends) or 'none'}",
    )
    for fault in faults:
        yield Finding("store", "broken", fault)


def _disk(path: Path) -> Finding:
    # Path.exists raises where it may not look.
    existing = next(place for place in (path, *path.parents) if os.path.exists(place))  # noqa: PTH110
    free = shutil.disk_usage(existing).free
    state = "ok" if free >= LOW_DISK_BYTES else "note"
    return Finding("disk", state, f"{terminal.size(free)} free at {existing}")
