"""Worker processes: order, crashes, replacements."""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runner import is_running

from afp.errors import AfpError
from afp.library.workers import Crash, Pool, tell_progress, usable_cores


def make_work(offset=0):
    def work(job):
        if job == "die":
            faulthandler.disable()  # pytest has enabled it
            os.kill(os.getpid(), signal.SIGSEGV)
        if job == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "exit":
            os._exit(7)
        if job == "pid":
            return os.getpid()
        if job == "noise":
            os.write(2, b"libmpg123 complains\n")
            return "noise"
        return job + offset

    return work


def broken_work():
    os._exit(3)


def run(pool, jobs):
    jobs, results = list(jobs), []
    while jobs or pool.n_pending:
        while jobs and pool.has_room:
            pool.submit(jobs.pop(0))
        results += pool.collect()
    return results


def test_every_job_comes_back_once():
    with Pool(make_work, (100,), n_workers=2) as pool:
        results = run(pool, range(50))
    assert sorted(results) == [(job, job + 100) for job in range(50)]


@pytest.mark.parametrize(
    ("job", "crash", "words"),
    [
        ("die", Crash(-signal.SIGSEGV), r"decoder crashed \(signal 11\)"),
        ("exit", Crash(7), r"worker exited \(status 7\)"),
    ],
)
def test_a_dying_worker_takes_its_own_job_only(job, crash, words):
    with Pool(make_work, n_workers=2) as pool:
        results = run(pool, [1, 2, job, 3, 4, 5, job, 6])
    assert sorted(r for r in results if isinstance(r[0], int)) == [(i, i) for i in range(1, 7)]
    assert [r for r in results if r[0] == job] == [(job, crash)] * 2
    assert re.fullmatch(words, str(crash))


def test_a_killed_worker_is_said_to_be_killed():
    with Pool(make_work, n_workers=1) as pool:
        ((_, pid),) = run(pool, ["pid"])
        pool.submit(1)
        ((_, result),) = pool.collect()
        assert result == 1
        os.kill(pid, signal.SIGKILL)
        assert run(pool, [2]) == [(2, 2)]  # it had not begun
        assert run(pool, ["killed"]) == [("killed", Crash(-signal.SIGKILL))]
        assert "out of memory" in str(Crash(-signal.SIGKILL))
        assert run(pool, [3]) == [(3, 3)]


@pytest.mark.parametrize(
    ("exit_code", "is_a_fault"),
    [(-signal.SIGSEGV, True), (-signal.SIGABRT, True), (-signal.SIGKILL, False), (1, False)],
)
def test_who_is_killed_is_not_to_blame(exit_code, is_a_fault):
    assert Crash(exit_code).is_a_fault is is_a_fault


class Poison:
    """Ends the process that receives it, before its work begins."""

    def __reduce__(self):
        return os._exit, (5,)


def test_workers_that_keep_dying_idle_end_the_run(monkeypatch):
    monkeypatch.setattr("afp.library.workers._MAX_IDLE_DEATHS", 1)
    with (
        Pool(make_work, n_workers=1) as pool,
        pytest.raises(AfpError, match=r"keep dying: worker exited \(status 5\)"),
    ):
        run(pool, [Poison()])


def test_a_worker_that_cannot_start_ends_the_run():
    with (
        Pool(broken_work, n_workers=1) as pool,
        pytest.raises(AfpError, match=r"could not start \(exit status 3\)"),
    ):
        run(pool, [1])


def test_what_decoders_print_is_not_heard(capfd):
    with Pool(make_work, n_workers=1) as pool:
        assert run(pool, ["noise"]) == [("noise", "noise")]
    assert capfd.readouterr().err == ""


def test_collect_waits_no_longer_than_told_or_woken():
    readable, writable = os.pipe()
    try:
        with Pool(time_wasting_work, n_workers=1) as pool:
            pool.submit(30)
            started = time.monotonic()
            pool.collect(timeout_seconds=0.2)  # may be that the worker is ready
            assert pool.collect(timeout_seconds=0.05) == []
            os.write(writable, b"!")
            assert pool.collect(wake=[readable]) == []
            assert time.monotonic() - started < 5
        assert time.monotonic() - started < 5
    finally:
        os.close(readable)
        os.close(writable)


def test_a_job_without_progress_is_ended_and_named():
    with Pool(time_wasting_work, n_workers=2, patience_seconds=2.0) as pool:
        results = dict(run(pool, [0, 1000, 0.01, 0.02]))
    crash = results.pop(1000)
    assert results == {0: None, 0.01: None, 0.02: None}
    assert crash == Crash(-signal.SIGKILL, hung_seconds=2.0)
    assert crash.is_a_fault
    assert str(crash).startswith("decoder hangs")


def test_a_slow_job_with_progress_is_not_ended():
    with Pool(slow_work, n_workers=1, patience_seconds=2.0) as pool:
        assert run(pool, ["a"]) == [("a", "done")]


def slow_work():
    def work(job):
        for _ in range(6):
            time.sleep(0.5)
            tell_progress()
        return "done"

    return work


def test_time_that_the_parent_was_suspended_for_does_not_count():
    with Pool(time_wasting_work, n_workers=1, patience_seconds=2.0) as pool:
        pool.submit(5.0)
        for _ in range(5):
            pool.collect(timeout_seconds=0.2)
        time.sleep(4.0)  # as when all are suspended
        results = run(pool, [])
    assert results == [(5.0, None)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere systems limit no memory")
def test_a_worker_may_hold_so_much_memory_and_no_more():
    with Pool(greedy_work, n_workers=1, most_bytes=4 << 30) as pool:
        results = run(pool, [1 << 20, 1 << 33, 1 << 21])
    assert results == [(1 << 20, 1 << 20), (1 << 33, "refused"), (1 << 21, 1 << 21)]


def greedy_work():
    def work(n_bytes):
        try:
            return len(bytearray(n_bytes))
        except MemoryError:
            return "refused"

    return work


def test_a_result_may_be_none():
    with Pool(time_wasting_work, n_workers=1) as pool:
        assert run(pool, [0]) == [(0, None)]


def test_what_a_worker_has_started_ends_with_it():
    with Pool(starting_work, n_workers=1) as pool:
        ((_, first),) = run(pool, ["start"])
        ((_, crash),) = run(pool, ["start and die"])
        assert crash == Crash(-signal.SIGSEGV)
    deadline = time.monotonic() + 10
    while is_running(first):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def starting_work():
    def work(job):
        child = subprocess.Popen(["sleep", "1000"])
        if job == "start and die":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return child.pid

    return work


def time_wasting_work():
    return time.sleep


def test_usable_cores_counts_the_affinity():
    assert usable_cores() == len(os.sched_getaffinity(0))


PARENT = """
import sys, time
sys.path[:0] = sys.argv[1:]
from afp.library.workers import Pool
from test_library_workers import time_wasting_work
with Pool(time_wasting_work, n_workers=2) as pool:
    for _ in range(2):
        pool.submit(60)
    pool.collect()
    print("at work", flush=True)
    pool.collect()
    pool.collect()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they finish their jobs first")
def test_workers_end_with_a_parent_that_is_killed():
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, here, *sys.path], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"at work\n"
        started = time.monotonic()
        parent.kill()
        assert parent.stdout.read() == b""  # to the end: nobody has it open any more
        assert time.monotonic() - started < 20
