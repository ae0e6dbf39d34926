"""Run a program and measure it with all of its descendants. Linux only."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02
FIELDS = ("Rss", "Pss", "Anonymous")
SMAPS_FIELDS = tuple(f"{field}:" for field in FIELDS)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program took.

    Attributes
    ----------
    wall_seconds, cpu_seconds : float
        CPU of the whole process tree, user and system.
    rss_mib, pss_mib, anonymous_mib : float
        Peaks of sums over the process tree, where memory was polled: resident pages (shared
        ones counted in each process), the same with shared ones counted once, and without the
        pages of mapped files.
    status : int
        Exit status.
    stderr : str
        What it said there.
    """

    wall_seconds: float
    cpu_seconds: float
    status: int = 0
    stderr: str = ""
    rss_mib: float = 0.0
    pss_mib: float = 0.0
    anonymous_mib: float = 0.0

    @classmethod
    def sum(cls, usages: Iterable["Usage"]) -> "Usage":
        """Add the times of programs that ran one after the other."""
        times = [(usage.wall_seconds, usage.cpu_seconds) for usage in usages]
        return cls(sum(wall for wall, _ in times), sum(cpu for _, cpu in times))


def run(command: Sequence[str], *, memory: bool = False) -> Usage:
    """Run a program to its end, its output thrown away.

    Parameters
    ----------
    memory : bool
        Poll the memory of the process tree; that takes some CPU time beside it.
    """
    peaks = dict.fromkeys(FIELDS, 0)
    with tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        while memory:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            for field, kib in _tree_memory(process.pid).items():
                peaks[field] = max(peaks[field], kib)
            time.sleep(POLL_SECONDS)
        else:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        return Usage(
            wall,
            usage.ru_utime + usage.ru_stime,
            process.returncode,
            stderr.read().decode(errors="replace"),
            *(peaks[field] / 1024 for field in FIELDS),
        )


def _tree_memory(pid: int) -> dict[str, int]:
    total = dict.fromkeys(FIELDS, 0)
    for member in _tree(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has just ended
        for line in lines:
            if line.startswith(SMAPS_FIELDS):
                field, kib, _ = line.split()
                total[field.rstrip(":")] += int(kib)
    return total


def _tree(root: int) -> list[int]:
    """List a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    members = [root]
    for member in members:  # grows while it is walked
        members += children.get(member, [])
    return members
