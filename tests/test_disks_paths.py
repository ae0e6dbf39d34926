"""Folders that are read-only, missing or strangely named; files that change while being read."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import excerpt, write_wav
from forked import afp

from afp.errors import ExitCode
from afp.library import Status, extractor, index
from afp.store import Store
from afp.synthesis import song

NOBODY = 65_534
STRANGE = b' it\'s a "b"\n$(touch c);*\\ \xff\xfe-'


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with music, a clip and a store."""
    folder = tmp_path_factory.mktemp("paths")
    for seed in range(2):
        write_wav(folder / f"music/{seed}.wav", song(seed, seconds=8.0))
    write_wav(folder / "clip.wav", excerpt(1, 2.0, 4.0, length=8.0))
    index(folder / "store", [folder / "music"], n_workers=1)
    return folder


def test_a_strange_name_is_a_name(made, tmp_path):
    folder = tmp_path / os.fsdecode(STRANGE)
    store, music = folder / os.fsdecode(b"store" + STRANGE), folder / "music"
    shutil.copytree(made / "music", music)
    song1 = music / os.fsdecode(b"1" + STRANGE + b".wav")
    (music / "1.wav").rename(song1)
    assert afp("index", "-j1", music, db=store).status == 0
    (answer,) = afp("query", "--json", made / "clip.wav", db=store).objects()
    assert os.fsencode(answer["matches"][0]["track"]["path"]) == os.fsencode(song1)
    assert os.fsencode(song1.name) in {
        os.fsencode(Path(track["path"]).name) for track in afp("ls", "--json", db=store).objects()
    }
    for command in ("stats", "check", "compact"):
        assert afp(command, db=store).status == 0, command
    assert afp("rm", song1, db=store).status == 0
    assert afp("query", made / "clip.wav", db=store).status == ExitCode.NO_MATCH
    assert not list(tmp_path.rglob("c"))


@pytest.fixture
def read_only(made, tmp_path) -> Iterator[Path]:
    """A copy of the store on a file system that is mounted read-only."""
    folder = tmp_path / "mounted"
    shutil.copytree(made / "store", folder / "store")
    shutil.copytree(made / "store", folder / "without")
    for file in (*folder.glob("without/*-lock"), folder / "without/writer.lock"):
        file.unlink()
    mounts = (["--bind", folder, folder], ["-o", "remount,ro,bind", folder])
    for arguments in mounts:
        done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("store", ["store", "without"])
def test_a_read_only_disk_is_for_reading(store, read_only, made):
    path = read_only / store
    for command in (("query", made / "clip.wav"), ("ls",), ("stats",), ("check",)):
        done = afp(*command, db=path)
        assert done.status == 0, done
    for command in (("index", made / "music"), ("rm", "1"), ("compact",), ("check", "--repair")):
        done = afp(*command, db=path)
        assert done.status == ExitCode.STORE, done
        assert "Read-only file system" in done.err
        assert "hint: see that the folder is there" in done.err


def test_what_is_no_folder_of_ours_is_told(made, tmp_path):
    file = write_wav(tmp_path / "file", song(0, seconds=1.0))
    for db in (file, file / "below", tmp_path / "missing", tmp_path):
        for command in (("ls",), ("query", made / "clip.wav"), ("check",), ("rm", "1")):
            done = afp(*command, db=db)
            assert done.status == ExitCode.STORE, (db, command, done)
            assert done.err.startswith("afp: error: ")
            assert "hint: " in done.err
    for db in (file, file / "below"):
        done = afp("index", "-j1", made / "music", db=db)
        assert done.status == ExitCode.STORE, done
        assert str(file) in done.err
    assert file.stat().st_size > 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_told(made, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(made / "store", store)
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("pytest-", "test_", "popen-")):
            path.chmod(0o755)
    store.chmod(0o700)
    for command in (("ls",), ("stats",), ("check",), ("rm", "1")):
        done = afp(*command, db=store, before=lambda: os.setuid(NOBODY))
        assert done.status == ExitCode.STORE, done
        assert "Permission denied" in done.err
        assert "hint: see that the folder is there, and that you may read it" in done.err


def replace_it(path: Path) -> None:
    new = write_wav(path.with_suffix(".new"), song(7, seconds=8.0))
    new.replace(path)


def truncate_it(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite_it(path: Path) -> None:
    write_wav(path, song(7, seconds=8.0))


@pytest.mark.parametrize("change", [replace_it, truncate_it, rewrite_it, Path.unlink])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_file_that_changes_is_stored_as_what_it_is(change, moment, tmp_path, monkeypatch):
    music, store = tmp_path / "music", tmp_path / "store"
    path, other = music / "0.wav", music / "1.wav"
    write_wav(path, song(0, seconds=8.0))
    write_wav(other, song(1, seconds=4.0))
    decode, read_tags = extractor.decode, extractor.read_tags

    def changed_before(found):
        if found == path:
            change(path)
        return decode(found)

    def changed_during(found):
        decoder = decode(found)
        if found == path:
            change(path)
        return decoder

    def changed_after(found):
        tags = read_tags(found)
        if found == path:
            change(path)
        return tags

    if moment == "after":
        monkeypatch.setattr(extractor, "read_tags", changed_after)
    else:
        changed = {"before": changed_before, "during": changed_during}[moment]
        monkeypatch.setattr(extractor, "decode", changed)
    outcomes = []
    report = index(store, [music], n_workers=1, observer=outcomes.append)
    monkeypatch.undo()
    assert report.counts[Status.ADDED] == 1
    (failure,) = report.failures
    assert failure.file.path == str(path)
    assert failure.error in (
        "it was changed while it was read",
        "No such file or directory",
    )
    with Store.open(store) as opened, opened.snapshot() as snapshot:
        assert list(snapshot.paths()) == [str(other)]
        assert snapshot.failures() == []  # so that the next run takes it
    again = index(store, [music], n_workers=1)
    assert again.counts[Status.ADDED] == (change is not Path.unlink)
    assert not again.failures


def test_a_file_that_changed_after_it_was_found_is_what_it_was_when_it_was_read(
    tmp_path, monkeypatch
):
    music, store = tmp_path / "music", tmp_path / "store"
    path = write_wav(music / "0.wav", song(0, seconds=8.0))
    decoded = extractor.Extractor._extract

    def changed(self, job):
        replace_it(path)
        return decoded(self, job)

    monkeypatch.setattr(extractor.Extractor, "_extract", changed)
    assert index(store, [music], n_workers=1).counts[Status.ADDED] == 1
    monkeypatch.undo()
    status = path.stat()
    with Store.open(store) as opened, opened.snapshot() as snapshot:
        entry = snapshot.path_entry(str(path))
        assert (entry.size, entry.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert index(store, [music], n_workers=1).counts[Status.SKIPPED] == 1
