"""Runs of a benchmark: their rows are right, and the same whatever happens on the way."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from bench_runs import repeatable, rows_of, write_recordings, write_songs
from cli_runner import AFP, RATE

from afp.audio import ContentHash, decode
from afp.bench.grid import Grid
from afp.bench.rows import PRESENT
from afp.bench.run import run
from afp.bench.task import Remark, Stage, Task
from afp.distort import parse, read
from afp.errors import InputError, StoreError, UsageError
from afp.library import Interruption, index

WORDS = ("clean", "noise:snr=20", "speed:percent=-3..3", "offset:ms=100..400")
QUERIES = 4
UNKNOWN = {"noise", "white", "pink", "tones", "chirps", "silence"}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return tuple(write_songs(tmp_path_factory.mktemp("songs")))


@pytest.fixture(scope="module")
def grid(songs, tmp_path_factory):
    return Grid(
        music=songs,
        distortions=tuple(d for words in WORDS for d in parse(words)),
        seconds=(2.0, 3.0),
        queries=QUERIES,
        absent=0.35,
        noise=write_recordings(tmp_path_factory.mktemp("noise")),
        seed=11,
    )


@pytest.fixture(scope="module")
def undisturbed(grid, tmp_path_factory):
    """A folder with a run, and what came of it."""
    out = tmp_path_factory.mktemp("undisturbed")
    return out, run(grid, out=out, n_workers=2)


def content_id(path, grid=None):
    """Of a file, by its path or by what the rows of a grid call it."""
    if grid is not None:
        path = Path(os.path.commonpath([music.parent for music in grid.music]), path)
    content = ContentHash()
    with decode(path) as decoder:
        for block in decoder:
            content.update(block)
    return content.hexdigest()


def test_every_query_of_the_grid_is_made_once(undisturbed, grid):
    out, outcome = undisturbed
    assert (outcome.n_left, outcome.interrupted) == (0, None)
    rows = outcome.rows
    cells = Counter((row.condition, row.seconds, row.kind) for row in rows)
    for distortion in grid.distortions:
        for seconds in grid.seconds:
            assert cells.pop((distortion.condition, seconds, PRESENT)) == QUERIES
            assert cells.pop((distortion.condition, seconds, "music")) == grid.n_absent
    assert {kind for _, _, kind in cells} == UNKNOWN
    assert set(cells.values()) == {grid.n_absent}
    assert {row.seed for row in rows} == {11}
    assert rows_of(out) == repeatable(rows)
    assert sorted(path.name for path in out.iterdir()) == ["grid.json", "rows.jsonl"]


def test_the_truth_is_where_the_excerpt_comes_from(undisturbed, grid):
    _, outcome = undisturbed
    ids = {row.source: content_id(row.source, grid) for row in outcome.rows if row.source}
    assert not any(Path(source).is_absolute() for source in ids)
    assert {a.path for row in outcome.rows for a in row.answers} <= {
        grid.named(str(path)) for path in grid.music
    }
    starts = set()
    for row in outcome.rows:
        if row.kind != PRESENT:
            assert row.truth is None
            continue
        assert row.truth.track == ids[row.source]
        drawn = row.drawn.get("percent", 0.0)
        assert row.truth.speed == pytest.approx(1 + drawn / 100, abs=1e-6)
        starts.add(
            (row.number, row.source, round(row.truth.start - row.drawn.get("ms", 0) / 1e3, 3))
        )
    assert len(starts) == QUERIES  # of the same excerpts in every cell


def test_right_answers_start_where_the_truth_does(undisturbed):
    _, outcome = undisturbed
    found = Counter()
    for row in outcome.rows:
        if row.kind == PRESENT and row.seconds == 3.0:
            right = [answer for answer in row.answers if answer.track == row.truth.track]
            found[row.condition] += len(right)
            for answer in right[:1]:
                if answer.p_false < 1e-3:
                    assert answer.start == pytest.approx(row.truth.start, abs=0.05)
                    assert answer.speed == pytest.approx(row.truth.speed, abs=0.005)
                    found["sure"] += 1
    assert found["clean"] >= QUERIES - 1
    assert found["sure"] >= 2 * QUERIES


def test_excerpts_are_of_the_file_at_the_truth(grid, tmp_path):
    """Without a distortion, the samples on the shelf are those of the file."""
    from afp.bench.excerpts import PAST, Excerpt, Shelf, Source, cut

    shelf = Shelf.of(tmp_path / "excerpts", grid, [(PRESENT, i) for i in range(3)])
    shelf.make()
    path = grid.music[0]
    samples = read(path, sample_rate=RATE)
    starts = [0, 12_345, len(samples) - shelf.length]
    source = Source(str(path), "", len(samples) / RATE)
    assert cut([Excerpt(PRESENT, i, source, s) for i, s in enumerate(starts)], shelf) == []
    for i, start in enumerate(starts):
        row = shelf.samples(PRESENT, i)
        begin = max(start - PAST, 0)
        n_zeros = begin - (start - PAST)
        assert not row[:n_zeros].any()
        piece = samples[begin : start - PAST + shelf.length]
        assert (row[n_zeros:][: len(piece)] == piece).all()


def test_what_is_absent_is_not_in_the_store(undisturbed, grid):
    _, outcome = undisturbed
    sources = {
        kind: {row.source for row in outcome.rows if row.kind == kind}
        for kind in (PRESENT, "music")
    }
    absent = {content_id(path, grid) for path in sources["music"]}
    present = {row.truth.track for row in outcome.rows if row.truth}
    present |= {answer.track for row in outcome.rows for answer in row.answers}
    assert absent
    assert not absent & present
    assert outcome.about.absent_tracks >= len(absent)
    for row in outcome.rows:
        assert (row.source == "") == (row.kind in UNKNOWN)


@pytest.mark.parametrize("seed", range(3))
def test_a_duplicate_of_what_is_indexed_is_not_absent(songs, seed):
    pair = tuple(path for path in songs if path.stem in ("song3", "again", "song1"))
    grid = Grid(pair, tuple(parse("clean")), (1.0,), queries=2, absent=0.3, seed=seed)
    try:
        outcome = run(grid, n_workers=1)
    except InputError as error:
        assert "every track that could be kept out is in the store too" in str(error)
        return
    (absent,) = {Path(row.source).stem for row in outcome.rows if row.kind == "music"}
    assert absent == "song1"


@pytest.mark.parametrize("n_workers", [1, 3])
def test_the_rows_follow_from_the_grid(grid, undisturbed, n_workers):
    _, outcome = undisturbed
    again = run(grid, n_workers=n_workers)
    assert repeatable(again.rows) == repeatable(outcome.rows)


def test_the_order_in_which_work_is_done_does_not_matter(grid, monkeypatch):
    some = replace(grid, absent=0.6)
    before = run(some, n_workers=1).rows
    worked = Task.worked
    monkeypatch.setattr(
        Task, "worked", lambda self, pool, jobs: reversed(list(worked(self, pool, jobs)))
    )
    after = run(some, n_workers=1).rows
    assert sorted(map(str, repeatable(after))) == sorted(map(str, repeatable(before)))


def test_another_seed_draws_others(grid, undisturbed):
    small = replace(grid, distortions=grid.distortions[:1], seconds=(2.0,), seed=12)
    first = [
        r
        for r in undisturbed[1].rows
        if (r.condition, r.seconds, r.kind) == ("clean", 2.0, PRESENT)
    ]
    second = [r for r in run(small, n_workers=1).rows if r.kind == PRESENT]
    assert [r.truth for r in first] != [r.truth for r in second]


def test_a_finished_run_is_not_run_again(grid, undisturbed):
    out, outcome = undisturbed
    before = (out / "rows.jsonl").stat().st_mtime_ns
    events = []
    again = run(grid, out=out, observer=events.append)
    assert again.rows == outcome.rows
    assert again.about == outcome.about
    assert (events, (out / "rows.jsonl").stat().st_mtime_ns) == ([], before)


@pytest.mark.parametrize("stage", ["reading noise", "indexing", "drawing", "querying"])
def test_an_interrupted_run_goes_on(grid, undisturbed, tmp_path, stage):
    with Interruption() as interruption:

        def interrupt(event):
            at_it = isinstance(event, Stage) and event.name.startswith(stage)
            if at_it and not interruption.signal and (stage != "querying" or event.done):
                os.kill(os.getpid(), signal.SIGINT)

        outcome = run(
            grid, out=tmp_path, n_workers=2, observer=interrupt, interruption=interruption
        )
    assert outcome.interrupted == signal.SIGINT
    if stage == "querying":
        assert 0 < outcome.n_left == len(undisturbed[1].rows) - len(outcome.rows)
    else:
        assert (outcome.n_left, outcome.about, outcome.rows) == (None, None, [])
    assert run(grid, out=tmp_path, n_workers=2).n_left == 0
    assert rows_of(tmp_path) == repeatable(undisturbed[1].rows)


def interrupted(grid, out):
    """Leave a run that is half done."""
    with Interruption() as interruption:

        def interrupt(event):
            at_it = isinstance(event, Stage) and event.name == "querying" and event.done
            if at_it and not interruption.signal:
                os.kill(os.getpid(), signal.SIGINT)

        return run(grid, out=out, n_workers=1, observer=interrupt, interruption=interruption)


def test_a_line_that_was_cut_is_made_again(grid, undisturbed, tmp_path):
    interrupted(grid, tmp_path)
    part = tmp_path / "rows.part.jsonl"
    part.write_bytes(part.read_bytes()[:-20])
    run(grid, out=tmp_path, n_workers=1)
    assert rows_of(tmp_path) == repeatable(undisturbed[1].rows)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.part.jsonl"])
def test_drafts_of_a_killed_run_go(grid, tmp_path, name):
    interrupted(grid, tmp_path)
    (tmp_path / f".{name}.4321.draft").write_bytes(b"{")
    (tmp_path / ".notes.draft").write_bytes(b"mine")
    run(grid, out=tmp_path, n_workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"grid.json", "rows.jsonl", ".notes.draft"}


def test_another_grid_is_refused(grid, undisturbed, tmp_path):
    interrupted(grid, tmp_path)
    kept = (tmp_path / "rows.part.jsonl").read_bytes()
    for folder in (undisturbed[0], tmp_path):
        other = replace(grid, seconds=(2.0,), seed=5, noise=None)
        with pytest.raises(UsageError, match="differs in seconds, noise, seed") as caught:
            run(other, out=folder)
        assert "--out" in caught.value.hint
    assert (tmp_path / "rows.part.jsonl").read_bytes() == kept


def test_a_folder_without_rows_takes_another_grid(grid, undisturbed, tmp_path):
    with pytest.raises(UsageError, match="no backend is called 'nothing'"):
        run(replace(grid, backends={"nothing": {}}), out=tmp_path, n_workers=1)
    run(grid, out=tmp_path, n_workers=2)
    assert rows_of(tmp_path) == repeatable(undisturbed[1].rows)


@pytest.mark.parametrize("name", ["work", "rows.jsonl", "rows.part.jsonl"])
def test_files_of_others_are_left_alone(grid, tmp_path, name):
    if name == "work":
        (tmp_path / name).mkdir()
    precious = tmp_path / name / "thesis.txt" if name == "work" else tmp_path / name
    precious.write_text("years of it")
    with pytest.raises(UsageError, match=f"has {name} in it"):
        run(grid, out=tmp_path)
    assert precious.read_text() == "years of it"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_lies_beside_a_run_does_not_matter(grid, tmp_path):
    (tmp_path / "notes.txt").write_text("to do")
    small = replace(grid, distortions=grid.distortions[:1], absent=0.0, queries=1)
    run(small, out=tmp_path, n_workers=1)
    assert (tmp_path / "notes.txt").read_text() == "to do"


def test_changed_music_is_another_grid(songs, tmp_path):
    grid = Grid(songs, tuple(parse("clean")))
    before = grid.as_json()
    copies = write_songs(tmp_path)
    assert Grid(tuple(copies), tuple(parse("clean"))).as_json()["music"] != before["music"]
    mine = Grid(tuple(copies), grid.distortions, noise=tmp_path)
    as_json = mine.as_json()
    copies[0].write_bytes(copies[0].read_bytes() + b"\0\0")
    different = {name for name, value in mine.as_json().items() if as_json[name] != value}
    assert different == {"music", "noise"}
    assert json.loads(json.dumps(before)) == before == grid.as_json()


def test_everything_of_a_grid_is_in_its_json(grid):
    others = {
        "music": grid.music[1:],
        "distortions": grid.distortions[1:],
        "seconds": (1.0,),
        "queries": 1,
        "backends": {"shazam": {"density": 50.0}},
        "parts": {"shazam": {}, "neural": {}},
        "absent": 0.1,
        "noise": None,
        "rooms": grid.noise,
        "speech": grid.noise,
        "store": Path("store"),
        "seed": 1,
        "distractors": grid.music[:1],
    }
    assert set(others) == set(Grid.__dataclass_fields__)
    for name, value in others.items():
        changed = replace(grid, **{name: value}).as_json()
        assert {key for key in changed if changed[key] != grid.as_json()[key]} == {name}


def test_distractors_are_indexed_and_never_asked_for(grid, songs, tmp_path):
    few = replace(grid, music=songs[:3], distortions=grid.distortions[:1], seconds=(2.0,))
    alone = run(replace(few, queries=12), n_workers=1)
    asked = {content_id(path) for path in songs[:3]}
    others = {content_id(path): path for path in songs[3:] if content_id(path) not in asked}
    beside = run(replace(few, queries=12, distractors=tuple(others.values())), n_workers=1)
    assert beside.about.tracks == alone.about.tracks + len(others)
    for outcome in (alone, beside):
        assert {row.truth.track for row in outcome.rows if row.truth} <= asked
    assert [row.truth for row in beside.rows] == [row.truth for row in alone.rows]


def test_the_store_as_it_is(grid, songs, tmp_path):
    store = tmp_path / "store"
    index(store, songs[:4], n_workers=1)
    held = {content_id(path) for path in songs[:4]}
    before = sorted((path, path.stat().st_size) for path in store.iterdir())
    used = replace(grid, store=store, distortions=grid.distortions[:1], seconds=(2.0,), queries=4)
    outcome = run(used, out=tmp_path / "out", n_workers=1)
    assert {row.truth.track for row in outcome.rows if row.truth} <= held
    absent = {content_id(row.source, grid) for row in outcome.rows if row.kind == "music"}
    assert absent
    assert not absent & held
    assert outcome.about.tracks == len(held)
    assert outcome.about.backends["shazam"]["index_wall_seconds"] == 0
    assert sorted((path, path.stat().st_size) for path in store.iterdir()) == before
    without = run(replace(used, music=(), queries=1, absent=0.9), n_workers=1)
    kinds = Counter(row.kind for row in without.rows)
    assert kinds == {PRESENT: 1, **dict.fromkeys(UNKNOWN, 9)}
    interrupted(replace(used, queries=9), tmp_path / "other")
    index(store, songs, n_workers=1)
    with pytest.raises(UsageError, match="has changed since the run began"):
        run(replace(used, queries=9), out=tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seconds": (7.9,)}, InputError, "none of 5 indexed tracks is longer than 8.*s"),
        ({"music": ()}, InputError, "no audio files found"),
        ({"backends": {"shazam": {"colour": 1}}}, UsageError, "no parameter 'colour'"),
        ({"noise": Path("/nowhere")}, InputError, "/nowhere: No such file"),
        ({"store": Path("/nowhere")}, StoreError, "no store at /nowhere"),
        ({"distortions": tuple(parse("babble:snr=0"))}, UsageError, "babble:snr=0: .*speech"),
        ({"queries": 10**9}, UsageError, "the excerpts take .* MB, and there are .* MB left"),
    ],
)
def test_what_cannot_be_run(grid, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        run(replace(grid, **change), out=tmp_path, n_workers=1)


def test_nothing_but_broken_files(tmp_path):
    broken = [tmp_path / f"{i}.wav" for i in range(3)]
    for path in broken:
        path.write_bytes(bytes(range(200)))
    grid = Grid(tuple(broken), tuple(parse("clean")))
    with pytest.raises(InputError, match=r"none of \d audio files could be indexed") as caught:
        run(grid, n_workers=1)
    assert caught.value.hint


@pytest.mark.parametrize("before", ["reading absent", "drawing"])
def test_a_file_that_goes_away(tmp_path, before):
    songs = write_songs(tmp_path / "songs")
    grid = Grid(tuple(songs), tuple(parse("clean")), (1.0,), queries=8, absent=0.3)
    gone, remarks = [], []

    def remove(event):
        if isinstance(event, Remark):
            remarks.append(event.text)
        elif event.name.startswith(before) and not gone:
            gone.append(next(p for p in songs if p.stem in ("song1", "song2")))
            gone[0].unlink()

    outcome = run(grid, n_workers=1, observer=remove)
    assert outcome.n_left == 0
    assert gone


def start(songs, out):
    arguments = [str(songs), "--distort", "clean", "--distort", "white:snr=0", "--seconds", "1,2"]
    return subprocess.Popen(
        [*AFP, "bench", *arguments, "--queries", "24", "-j", "2", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_run_that_is_killed_several_times_goes_on(songs, tmp_path):
    folder = songs[0].parent
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(folder, whole)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    chance = random.Random(5)
    part = killed / "rows.part.jsonl"
    for n_rows in (0, 4, 12):
        process = start(folder, killed)
        while process.poll() is None:
            if n_rows == 0:
                time.sleep(chance.uniform(0.3, 0.9))
                break
            if part.exists() and part.read_bytes().count(b"\n") > n_rows:
                break
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=60)
    assert part.exists()
    process = start(folder, killed)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert rows_of(killed) == rows_of(whole)
    assert sorted(path.name for path in killed.iterdir()) == ["grid.json", "rows.jsonl"]


def test_two_runs_in_one_folder(songs, tmp_path):
    first = start(songs[0].parent, tmp_path)
    while not (tmp_path / "work").exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = start(songs[0].parent, tmp_path)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert b"another run is writing there" in err
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err


def test_a_worker_that_is_killed_is_replaced(grid, undisturbed, tmp_path):
    killed = []

    def kill(event):
        if isinstance(event, Stage) and event.name == "querying" and event.done and not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    run(grid, out=tmp_path, n_workers=2, observer=kill)
    assert killed
    assert rows_of(tmp_path) == repeatable(undisturbed[1].rows)
