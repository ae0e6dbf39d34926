"""Walking folders and reading tags."""

import os
import subprocess
from pathlib import Path

import pytest
import soundfile
from synthesis import tone

from afp.audio import AudioFile, Tags, read_tags, walk
from afp.errors import InputError


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return root


def found(root, *paths, **options):
    return [os.path.relpath(file.path, root) for file in walk(paths or [root], **options)]


def test_audio_files_are_found_in_order_of_their_names(tmp_path):
    tree(tmp_path, "b.mp3", "a/z.FLAC", "a/y/1.ogg", "c.txt", "a.wav", "ä.opus", "noextension")
    assert found(tmp_path) == ["a/y/1.ogg", "a/z.FLAC", "a.wav", "b.mp3", "ä.opus"]


def test_a_file_is_described(tmp_path):
    path = tree(tmp_path, "song.m4a") / "song.m4a"
    os.utime(path, ns=(5, 1234567890123456789))
    expected = AudioFile(str(path), len("song.m4a"), 1234567890123456789)
    assert list(walk([path])) == list(walk([tmp_path])) == [expected]


def test_hidden_entries_are_left_out_unless_named(tmp_path):
    tree(tmp_path, ".git/a.mp3", "a/._b.mp3", "a/b.mp3", ".c.mp3")
    assert found(tmp_path) == ["a/b.mp3"]
    assert found(tmp_path, tmp_path / ".git", tmp_path / ".c.mp3") == [".git/a.mp3", ".c.mp3"]


def test_a_named_file_is_taken_once_whatever_its_name(tmp_path):
    tree(tmp_path, "track", "a.mp3")
    named = [tmp_path / "track", tmp_path, tmp_path / "a.mp3", tmp_path / "track"]
    assert found(tmp_path, *named) == ["track", "a.mp3"]


def test_links_are_followed_and_loops_end(tmp_path):
    tree(tmp_path, "music/a/1.mp3", "elsewhere/2.mp3")
    (tmp_path / "music/a/up").symlink_to(tmp_path / "music")
    (tmp_path / "music/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music/3.mp3").symlink_to(tmp_path / "elsewhere/2.mp3")
    assert found(tmp_path, tmp_path / "music") == [
        "music/3.mp3",
        "music/a/1.mp3",
        "music/linked/2.mp3",
    ]


def test_what_is_no_file_is_left_out(tmp_path):
    tree(tmp_path, "x.wav/inside.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert found(tmp_path) == ["x.wav/inside.wav"]


def test_problems_are_reported_and_the_walk_goes_on(tmp_path):
    tree(tmp_path, "a.mp3", "z.mp3")
    (tmp_path / "gone.mp3").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.mp3").symlink_to(tmp_path / "self.mp3")
    problems = {}
    missing = str(tmp_path / "missing")
    assert found(tmp_path, missing, "nul\0", tmp_path, on_error=problems.__setitem__) == [
        "a.mp3",
        "z.mp3",
    ]
    assert sorted(problems) == sorted(
        [missing, "nul\0", f"{tmp_path}/gone.mp3", f"{tmp_path}/self.mp3"]
    )
    assert "No such file" in str(problems[missing])
    with pytest.raises(InputError, match="missing: No such file"):
        list(walk([missing]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_reported(tmp_path):
    tree(tmp_path, "a/1.mp3", "b.mp3")
    (tmp_path / "a").chmod(0)
    problems = {}
    assert found(tmp_path, on_error=problems.__setitem__) == ["b.mp3"]
    assert "Permission denied" in str(problems[f"{tmp_path}/a"])
    (tmp_path / "a").chmod(0o700)


def test_deep_folders(tmp_path):
    subprocess.run(["mkdir", "-p", "d/" * 1050], cwd=tmp_path, check=True)
    (tmp_path / ("d/" * 1050) / "a.mp3").touch()
    assert len(found(tmp_path)) == 1
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_names_of_any_bytes(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n'.mp3")
    Path(path).touch()
    assert [file.path for file in walk([tmp_path])] == [path]


@pytest.mark.parametrize("extension", ["flac", "ogg", "wav", "aiff"])
def test_tags(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    with soundfile.SoundFile(path, "w", 44100, 1) as file:
        file.title, file.artist, file.album = "Übung", "A\x1b[31m", "Ω"
        file.write(tone(0.2, sample_rate=44100))
    tags = read_tags(path)
    assert tags.title == "Übung"
    assert tags.artist == "A\x1b[31m"
    assert tags.album == ("Ω" if extension != "aiff" else tags.album)


def test_tags_are_bounded_and_free_of_nul(tmp_path):
    text = b"\0\xc3\x9c\0b\0" + b"x" * 5000
    frame = b"TIT2" + (len(text) + 1).to_bytes(4, "big") + b"\0\0\3" + text
    size = len(frame)
    header = b"ID3\3\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    path = tmp_path / "a.mp3"
    soundfile.write(path, tone(0.2, sample_rate=44100), 44100)
    path.write_bytes(header + frame + path.read_bytes())
    title = read_tags(path).title
    assert title is not None
    assert title.startswith("Ü")
    assert "\0" not in title
    assert len(title) <= 1000


def test_without_readable_tags_they_are_empty(tmp_path):
    (tmp_path / "garbage.mp3").write_bytes(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(range(256)) * 20)
    (tmp_path / "garbage.m4a").write_bytes(b"\0\0\0\x20ftypM4A \xff\xff\xff\xffmoov" * 9)
    (tmp_path / "empty.flac").touch()
    os.mkfifo(tmp_path / "pipe.ogg")
    for name in ("garbage.mp3", "garbage.m4a", "empty.flac", "pipe.ogg", "missing.wav", "."):
        assert read_tags(tmp_path / name) == Tags()
