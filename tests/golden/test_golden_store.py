"""Every format that a release has written opens for ever: read, searched, checked, written to."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from generate_store import BACKENDS, FOLDER, audio, digests, new_track

from afp.errors import StoreError
from afp.library.choice import backend_of_store
from afp.library.receiver import TransferReport
from afp.library.transfer import merge
from afp.store import FORMAT, Store

REMEDY = """
this store is no longer what it was. As long as its format is in no release, run
`python tests/golden/generate_store.py`; from then on, raise `afp.store.FORMAT`, write the golden
store of the new format, and keep this one readable (see `afp.store.folder.require_format`)."""
CLIP_SECONDS = 5.0
START_SECONDS = 2.0


@pytest.fixture(params=sorted(FOLDER.glob("store-v*.json")), ids=lambda path: path.stem)
def golden(request, tmp_path):
    """A copy of a golden store, and what it holds."""
    expected = json.loads(request.param.read_text())
    if expected["byte_order"] != sys.byteorder:
        pytest.skip(f"it was written on a {expected['byte_order']}-endian machine")
    return shutil.copytree(request.param.with_suffix(""), tmp_path / "golden"), expected


def assert_same(store, expected):
    with store.snapshot() as snapshot:
        assert {name: asdict(each) for name, each in snapshot.backends.items()} == (
            expected["backends"]
        ), REMEDY
        tracks = [{**asdict(track), "backends": [*track.backends]} for track in snapshot.tracks()]
        assert tracks == expected["tracks"], REMEDY
        assert sorted(snapshot.paths()) == expected["paths"], REMEDY
        assert [asdict(each) for each in snapshot.failures()] == expected["failures"], REMEDY
        assert digests(snapshot) == expected["digests"], REMEDY
        assert snapshot.find_track(2) is None  # removed


def assert_answers(store, name, numbers):
    backend = backend_of_store(store, name)
    first = round(START_SECONDS * backend.sample_rate)
    stop = first + round(CLIP_SECONDS * backend.sample_rate)
    with store.snapshot() as snapshot:
        for number in numbers:
            clip = np.ascontiguousarray(audio(number, backend.sample_rate)[first:stop])
            query = backend.extract(clip, dense=True)
            found = backend.match(query, snapshot.index(name), limit=1)[0]
            assert found.track.content_id == f"{number:032x}", REMEDY
            # Neural's is the time of a query that may begin between two of its segments.
            offset = found.track_start - found.query_start
            assert offset == pytest.approx(START_SECONDS, abs=0.1)
            assert found.p_false < 1e-3


def test_there_is_one_of_this_format():
    assert (FOLDER / f"store-v{FORMAT}").is_dir(), "run `python tests/golden/generate_store.py`"


def test_a_golden_store_is_read_checked_compacted_and_written_to(golden):
    folder, expected = golden
    with Store.open(folder) as store:
        assert_same(store, expected)
        assert store.check() == []
    with Store.open(folder, write=True) as store:
        store.compact()
        assert_same(store, expected)
        store.add([new_track(5)])
        assert store.check() == []
        with store.snapshot() as snapshot:
            track = snapshot.track_by_path("/music/5.wav")
            assert set(track.backends) == set(BACKENDS)
            assert track.id > 4
        assert_answers(store, "shazam", [5])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_golden_store_answers(golden, name):
    folder, _ = golden
    with Store.open(folder, write=True) as store:
        try:
            backend_of_store(store, name)
        except StoreError as error:
            pytest.skip(f"{name} has gone on: {error}")
        assert_answers(store, name, [1, 3, 4])  # of a segment and of a tail
        store.compact()
        assert_answers(store, name, [4])


def test_a_golden_store_merges_into_a_new_one(golden, tmp_path):
    folder, expected = golden
    path = tmp_path / "new"
    report = TransferReport()
    merge(path, [folder], report=report)
    assert report.added == len(expected["tracks"])
    with Store.open(path) as store, store.snapshot() as snapshot:
        assert digests(snapshot) == expected["digests"]
        assert sorted(snapshot.paths()) == expected["paths"]
        assert snapshot.failures() == []


def test_it_is_small():
    n_bytes = sum(file.stat().st_size for file in Path(FOLDER).glob("store-v*/**/*"))
    assert n_bytes < 300_000 * FORMAT
