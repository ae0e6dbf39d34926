"""Nothing stored is lost, and nothing of the moment is held against a file."""

import errno
import faulthandler
import multiprocessing
import os
import shutil
import signal
import sys

import pytest
from cli_runner import excerpt, write_wav

from afp.audio import decode
from afp.backends import create
from afp.errors import StoreError, UsageError
from afp.library import (
    FileOutcome,
    Interruption,
    Planned,
    Searcher,
    Status,
    index,
    indexing,
    prune,
)
from afp.library import extractor as extractor_module
from afp.library.choice import backend_of_store, backends_to_index
from afp.library.extractor import Extractor
from afp.library.upkeep import is_gone
from afp.store import Failure, Store
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(autouse=True)
def plugged(plugin, monkeypatch):
    """Make the backends of the plug-in known to this process."""
    monkeypatch.syspath_prepend(plugin)
    yield
    for name in ("own_backend", "misbehaving"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        write_wav(tmp_path / "music" / f"{seed}.wav", song(seed, seconds=8.0))
    return tmp_path / "music"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def tracks(path):
    with Store.open(path) as store, store.snapshot() as snapshot:
        return {track.path: track for track in snapshot.tracks()}


def failures(path):
    with Store.open(path) as store:
        return [failure.path for failure in store.failures()]


@pytest.fixture
def newer_decoder(tmp_path, monkeypatch):
    """Let files decode to other samples than before (in workers too: they are forked)."""
    other = write_wav(tmp_path / "other.wav", song(0, seconds=8.1))

    def use():
        monkeypatch.setattr(extractor_module, "decode", lambda path: decode(other))

    return use


def test_a_file_that_decodes_differently_keeps_all_its_backends(folder, path, newer_decoder):
    file = folder / "0.wav"
    index(path, [file], backends=["loudest"])
    (before,) = tracks(path).values()
    newer_decoder()
    report = index(path, [file], backends=["slow"])
    assert report.counts[Status.ADDED] == 1
    (after,) = tracks(path).values()
    assert after.content_id != before.content_id
    assert set(after.backends) == {"loudest", "slow"}
    with Searcher.open(path, "loudest") as searcher:
        assert searcher.query(file).matches[0].track == after


def test_a_backend_that_cannot_be_made_again_is_not_given_up(
    folder, path, newer_decoder, monkeypatch
):
    file = folder / "0.wav"
    index(path, [file], backends=["slow"])
    before = tracks(path)
    newer_decoder()
    monkeypatch.setattr(type(create("slow")), "version", 2)
    report = index(path, [file], backends=["loudest"])
    (failure,) = report.failures
    assert "backend 'slow', which fingerprinted it then, cannot be used here" in failure.error
    assert tracks(path) == before
    assert failures(path) == []


def test_a_changed_file_is_fingerprinted_with_all_that_it_had(folder, path):
    index(path, [folder], backends=["loudest", "slow"])
    write_wav(folder / "0.wav", song(40, seconds=8.0))
    index(path, [folder], backends=["loudest"])
    assert set(tracks(path)[str(folder / "0.wav")].backends) == {"loudest", "slow"}


def test_a_file_that_cannot_be_opened_is_tried_again(folder, path, monkeypatch):
    real = os.open

    def failing(name, *arguments, **options):
        if name == str(folder / "1.wav"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        report = index(path, [folder], backends=["loudest"])
    (failure,) = report.failures
    assert failure.error == "Input/output error"
    assert failures(path) == []
    assert index(path, [folder]).counts[Status.ADDED] == 1


def test_without_ffmpeg_nothing_is_given_up(folder, path, tmp_path, monkeypatch):
    garbage = folder / "garbage.m4a"
    garbage.write_bytes(b"no audio" * 99)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        (failure,) = index(path, [folder], backends=["loudest"]).failures
    assert "cannot be decoded" in failure.error
    assert failures(path) == []
    if shutil.which("ffmpeg"):
        assert index(path, [folder]).counts[Status.FAILED] == 1
        assert failures(path) == [str(garbage)]


@pytest.mark.parametrize(
    ("number", "is_remembered"), [(signal.SIGKILL, False), (signal.SIGABRT, True)]
)
def test_a_worker_that_is_killed_is_not_held_against_the_file(
    folder, path, monkeypatch, number, is_remembered
):
    call = Extractor.__call__

    def deadly(self, job):
        if job.file.path.endswith("1.wav"):
            faulthandler.disable()  # pytest has enabled it
            os.kill(os.getpid(), number)
        return call(self, job)

    monkeypatch.setattr(Extractor, "__call__", deadly)
    report = index(path, [folder], backends=["loudest"], n_workers=1)
    assert report.counts[Status.FAILED] == 1
    assert failures(path) == ([str(folder / "1.wav")] if is_remembered else [])


def test_workers_are_forked_before_the_observer_may_start_threads(folder, path):
    seen = []

    def observe(event):
        if isinstance(event, Planned):
            seen.append(len(multiprocessing.active_children()))

    index(path, [folder], backends=["loudest"], n_workers=2, observer=observe)
    assert seen == [2]


def test_what_cannot_be_looked_at_is_not_gone(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert not is_gone(str(tmp_path / "file"))
    assert not is_gone(str(tmp_path / "link"))
    assert is_gone(str(tmp_path / "nowhere"))
    assert is_gone(str(tmp_path / "file" / "below"))

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "lstat", refuse)
    assert not is_gone(str(tmp_path / "nowhere"))


def test_a_copy_of_a_file_in_a_locked_folder_is_a_duplicate(folder, path, monkeypatch):
    index(path, [folder], backends=["loudest"])
    copy = shutil.copy(folder / "0.wav", folder / "copy.wav")
    real = os.stat

    def refuse(name, **options):
        if os.fspath(name) == str(folder / "0.wav"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, **options)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    report = index(path, [copy])
    assert report.counts[Status.DUPLICATE] == 1


def test_a_file_is_moved_once(folder, path):
    index(path, [folder], backends=["loudest"])
    shutil.copy(folder / "0.wav", folder / "copy1.wav")
    (folder / "0.wav").rename(folder / "copy2.wav")
    report = index(path, [folder])
    assert report.counts[Status.MOVED] == 1
    assert report.counts[Status.DUPLICATE] == 1


def test_an_interruption_while_looking_for_files(folder, path):
    index(path, [folder], backends=["loudest"])

    def observe(event):
        if isinstance(event, FileOutcome):
            signal.raise_signal(signal.SIGINT)

    with Interruption() as interruption:
        report = index(path, [folder], observer=observe, interruption=interruption)
    assert report.counts[Status.SKIPPED] == 1
    assert report.n_left is None


def test_an_interruption_before_the_work(folder, path):
    (folder / "missing.wav").symlink_to(folder / "nowhere")

    def paths():
        yield folder
        signal.raise_signal(signal.SIGINT)

    with Interruption() as interruption:
        report = index(path, paths(), backends=["loudest"], interruption=interruption)
    assert report.n_left is None
    assert not path.exists()


def test_failures_and_moves_are_one_transaction_each(folder, path, monkeypatch):
    index(path, [folder], backends=["loudest"])
    for file in list(folder.iterdir()):
        file.rename(file.with_name(f"new-{file.name}"))
    for i in range(5):
        (folder / f"{i}.mp3").write_bytes(bytes(range(256)) * 8)
    changes = []
    real = Store._change
    monkeypatch.setattr(
        Store, "_change", lambda self, change: (changes.append(change), real(self, change))[1]
    )
    monkeypatch.setattr(indexing, "BATCH_SECONDS", 60.0)
    report = index(path, [folder])
    assert report.counts[Status.MOVED] == 3
    assert report.counts[Status.FAILED] == 5
    names = [change.__qualname__.split(".")[1] for change in changes]
    assert names.count("forget_paths") == 1
    assert names.count("record_failures") == (shutil.which("ffmpeg") is not None)


def test_a_searcher_sees_what_is_added_later(folder, path):
    clip = write_wav(folder.parent / "clip.wav", excerpt(2, 1.0, 6.0, length=8.0))
    index(path, [folder / "0.wav"], backends=["loudest"])
    with Searcher.open(path) as searcher:
        assert searcher.query(clip).matches == []
        index(path, [folder])
        assert searcher.query(clip).matches[0].track.path == str(folder / "2.wav")
        with Store.open(path, write=True) as store:
            store.compact()
        loaded = searcher.query(clip).matches[0].track
        with Store.open(path, write=True) as store:
            store.remove([loaded.id])
        assert searcher.query(clip).matches == []


def test_a_searcher_keeps_what_it_has_loaded_while_nothing_changes(folder, path):
    index(path, [folder], backends=["loudest"])
    with Searcher.open(path) as searcher:
        before = searcher.indexes
        searcher.query(folder / "0.wav")
        assert searcher.indexes is before


def test_another_version_with_other_parameters_is_told_by_its_version(path):
    with Store.open(path, write=True) as store:
        store.register("loudest", version=7, parameters={"gone": 1}, hop_seconds=0.032)
        with pytest.raises(StoreError, match="version 7 of backend 'loudest', this is version 1"):
            backend_of_store(store)
        with pytest.raises(StoreError, match="version 7 of backend 'loudest', this is version 1"):
            backends_to_index(store.backends())


def test_a_window_that_the_axis_has_no_room_for_is_refused(path, monkeypatch):
    backend = create("loudest")
    monkeypatch.setattr(type(backend), "window_seconds", 4096 * backend.hop_seconds)
    with pytest.raises(UsageError, match=r"'loudest' looks up 131\.072 s at a time"):
        backends_to_index({}, ["loudest"])
    with Store.open(path, write=True) as store:
        store.register("loudest", version=1, parameters={}, hop_seconds=backend.hop_seconds)
        with pytest.raises(UsageError, match="must be less than 131"):
            backend_of_store(store)


def test_prune_forgets_failures_of_files_that_are_gone(folder, path):
    index(path, [folder], backends=["loudest"])
    (folder / "bad2.wav").touch()
    with Store.open(path, write=True) as store:
        store.record_failures(
            Failure(str(folder / name), 0, 0, "is empty") for name in ("bad1.wav", "bad2.wav")
        )
        vanished = prune(store)
        assert vanished.failures == [str(folder / "bad1.wav")]
        assert [failure.path for failure in store.failures()] == [str(folder / "bad2.wav")]


def test_one_emptied_album_does_not_stop_a_prune(folder, path):
    write_wav(folder / "album" / "a.wav", song(11, seconds=8.0))
    index(path, [folder], backends=["loudest"])
    (folder / "album" / "a.wav").unlink()
    with Store.open(path, write=True) as store:
        assert prune(store).paths == [str(folder / "album" / "a.wav")]
    assert len(tracks(path)) == 3


def test_a_folder_that_became_a_file_does_not_stop_a_prune(folder, path):
    write_wav(folder / "album" / "a.wav", song(11, seconds=8.0))
    index(path, [folder], backends=["loudest"])
    shutil.rmtree(folder / "album")
    (folder / "album").touch()
    with Store.open(path, write=True) as store:
        assert prune(store).paths == [str(folder / "album" / "a.wav")]


def test_an_empty_mount_point_stops_a_prune(folder, path):
    for album in ("one", "two"):
        write_wav(folder / "disk" / album / "a.wav", song(len(album), seconds=4.0))
    write_wav(folder / "disk" / "two" / "b.wav", song(12, seconds=4.0))
    index(path, [folder], backends=["loudest"])
    shutil.rmtree(folder / "disk")
    (folder / "disk").mkdir()
    with (
        Store.open(path, write=True) as store,
        pytest.raises(StoreError, match=r"disk/one is missing or empty: is a disk not mounted\?"),
    ):
        prune(store)
