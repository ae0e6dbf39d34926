"""``-b fused``, end to end."""

import json

import numpy as np
import pytest
import soxr
from cli_runner import RATE, Cli, excerpt, write_wav

from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(scope="module")
def both(music, plugin, tmp_path_factory):
    """A store that holds `music` for two backends. Not to be changed."""
    cli = Cli(tmp_path_factory.mktemp("both") / "store", plugin)
    cli("index", "-b", "shazam", "-b", "neural", music)
    return cli


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(4)
    gap = 0.05 * rng.standard_normal(8 * RATE)
    write_wav(folder / "one.wav", excerpt(1, 7.0, 4.0))
    write_wav(folder / "absent.wav", 0.1 * rng.standard_normal(5 * RATE))
    write_wav(folder / "silence.wav", np.zeros(5 * RATE))
    show = [excerpt(2, 2.0, 14.0), gap, excerpt(0, 4.0, 14.0)]
    write_wav(folder / "show.wav", np.concatenate(show))
    return folder


def test_lines_name_the_track_and_the_place(both, clips, music):
    out, err = both("query", "-b", "fused", clips / "one.wav")
    (line,) = out.splitlines()
    fields = line.split("\t")
    assert fields[:2] == [str(clips / "one.wav"), str(music / "song1.wav")]
    query_start, _, track_start, _ = map(float, fields[2:6])
    assert track_start - query_start == pytest.approx(7.0, abs=0.05)
    assert float(fields[7]) < 1e-3
    assert fields[8] == "fused"
    assert err == ""


def test_json_tells_what_each_part_thought(both, clips):
    names = ["one.wav", "absent.wav", "silence.wav"]
    out, _ = both("query", "-b", "fused", "--json", *(clips / name for name in names))
    found, *others = map(json.loads, out.splitlines())
    assert [result["matches"] for result in others] == [[], []]
    assert found["backend"] == "fused"
    (match,) = found["matches"]
    assert set(match["details"]) == {"shazam", "neural"}
    assert all(0 < p < 0.1 for p in match["details"].values())
    assert match["p_false"] < 1e-3
    assert match["speed"] == pytest.approx(1.0, abs=0.005)


def test_a_long_recording_has_a_timeline(both, clips):
    out, _ = both("query", "-b", "fused", "--all", "--json", clips / "show.wav")
    matches = json.loads(out)["matches"]
    assert [match["track"]["path"].rpartition("/")[2] for match in matches] == [
        *("song2.wav", "song0.wav")
    ]
    for match, start, place in zip(matches, (0.0, 22.0), (2.0, 4.0), strict=True):
        assert match["query_start"] == pytest.approx(start, abs=1.0)
        assert match["query_end"] == pytest.approx(start + 14.0, abs=1.0)
        offset = match["track_start"] - match["query_start"]
        assert offset == pytest.approx(place - start, abs=0.1)


def test_embeddings_of_a_faster_recording_make_one_stretch(cli, tmp_path):
    samples = song(5, seconds=42.0)
    path = write_wav(tmp_path / "music" / "long.wav", samples)
    cli("index", "-b", "neural", path)
    faster = write_wav(tmp_path / "faster.wav", soxr.resample(samples, 1.03 * RATE, RATE))
    out, _ = cli("query", "--all", "--json", faster)
    (match,) = json.loads(out)["matches"]
    assert match["speed"] == pytest.approx(1.03, abs=0.01)


def test_nothing_found_is_status_1(both, clips):
    out, err = both("query", "-b", "fused", clips / "absent.wav", status=1)
    assert (out, err.count("\n")) == ("", 1)


def test_without_a_name_the_store_is_searched_as_before(both, clips):
    out, _ = both("query", clips / "one.wav")
    assert out.rstrip("\n").endswith("\tshazam")


def test_a_store_with_one_part_says_how_to_add_the_other(indexed, clips):
    out, err = indexed("query", "-b", "fused", clips / "one.wav", status=2)
    assert out == ""
    problem, hint = err.splitlines()
    assert "'fused' takes two of neural, shazam; the store has shazam" in problem
    assert "afp index -b neural PATH" in hint


def test_an_empty_store_says_what_to_index(cli, clips, tmp_path):
    (tmp_path / "nothing").mkdir()
    cli("index", tmp_path / "nothing")
    _, err = cli("query", "-b", "fused", clips / "one.wav", status=4)
    assert "empty" in err
    assert "Traceback" not in err


def test_nothing_is_indexed_for_it(cli, music):
    out, err = cli("index", "-b", "fused", music, status=2)
    assert out == ""
    problem, hint = err.splitlines()
    assert "'fused' stores nothing of its own" in problem
    assert "afp index -b neural -b shazam PATH" in hint
    assert not cli.store.exists()


def test_a_benchmark_has_it_beside_its_parts(cli, music):
    names = ("shazam", "neural", "fused")
    small = ("--queries", "3", "--seconds", "3", "-j", "1", "--distort", "white:snr=5")
    chosen = (word for name in names for word in ("-b", name))
    out, err = cli("bench", music, *chosen, *small, "--absent", "0.3", "--json")
    scores = json.loads(out)
    cells = {cell["backend"]: cell for cell in scores["cells"]}
    assert tuple(cells) == names
    assert cells["fused"]["track"]["share"] == 1.0
    facts = scores["about"]["backends"]
    alone = [facts[name]["bytes_per_second"] for name in names[:2]]
    # What belongs to neither is in each.
    assert max(alone) < facts["fused"]["bytes_per_second"] <= sum(alone) + 0.01
    taken = [facts[name]["index_cpu_seconds"] for name in names]
    assert taken[2] == pytest.approx(taken[0] + taken[1], abs=0.01)
    assert [err.count(f"indexing for {name}") > 0 for name in names] == [True, True, False]


def test_a_benchmark_of_it_alone_indexes_its_parts(cli, music):
    small = ("--queries", "2", "--seconds", "3", "-j", "1", "--distort", "clean")
    out, _ = cli("bench", music, "-b", "fused", *small, "--absent", "0", "--json")
    scores = json.loads(out)
    assert [cell["backend"] for cell in scores["cells"]] == ["fused"]
    assert list(scores["about"]["backends"]) == ["fused"]
    _, err = cli("bench", music, "-b", "fused", "-p", "density=20", *small, status=2)
    assert "-p is for a single backend" in err


def test_a_benchmark_takes_a_store_as_it_is(both, indexed):
    small = ("--queries", "2", "--seconds", "3", "-j", "1", "--distort", "clean")
    out, _ = both("bench", "--use-store", "-b", "fused", *small, "--json")
    assert [cell["track"]["k"] for cell in json.loads(out)["cells"]] == [2]
    _, err = indexed("bench", "--use-store", "-b", "fused", *small, status=2)
    assert "'fused' takes two of" in err
