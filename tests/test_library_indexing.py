"""What a program calls to fill and to search a store."""

import signal
import sys

import numpy as np
import pytest
from cli_runner import excerpt, write_wav

from afp.errors import StoreError, UsageError
from afp.library import FileOutcome, Interruption, Planned, Searcher, Status, index
from afp.library.choice import backend_of_store, backends_to_index
from afp.store import Store
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def plugged(plugin, monkeypatch):
    """Make the backends of the plug-in known to this process."""
    monkeypatch.syspath_prepend(plugin)
    yield
    for name in ("own_backend", "misbehaving"):
        sys.modules.pop(name, None)


def test_index_tells_and_reports(plugged, music, tmp_path):
    events = []
    (tmp_path / "garbage.wav").write_bytes(b"no audio" * 99)
    report = index(
        tmp_path / "store", [music, tmp_path], backends=["loudest"], observer=events.append
    )
    planned, *outcomes = events
    assert planned == Planned(n_files=5, n_bytes=planned.n_bytes, backends=("loudest",))
    assert planned.n_bytes == sum(p.stat().st_size for p in music.iterdir()) + 8 * 99
    assert all(isinstance(outcome, FileOutcome) for outcome in outcomes)
    assert report.counts == {**dict.fromkeys(Status, 0), Status.ADDED: 4, Status.FAILED: 1}
    assert [failure.file.path for failure in report.failures] == [str(tmp_path / "garbage.wav")]
    assert report.audio_seconds == pytest.approx(80.0)
    assert report.n_left == 0
    assert report.interrupted is None
    stored = {outcome.track.path for outcome in outcomes if outcome.track}
    assert stored == {str(path) for path in music.iterdir()}


def test_what_is_told_is_stored_already(plugged, music, tmp_path):
    def observe(event):
        if isinstance(event, FileOutcome):
            with Store.open(tmp_path / "store") as store, store.snapshot() as snapshot:
                assert snapshot.track(event.track.id) == event.track

    report = index(tmp_path / "store", [music], backends=["loudest"], observer=observe)
    assert report.counts[Status.ADDED] == 4


def test_the_number_of_workers_makes_no_difference(plugged, music, tmp_path):
    found = []
    for n_workers in (1, 3):
        store = tmp_path / f"store{n_workers}"
        index(store, [music], backends=["loudest"], n_workers=n_workers)
        clip = write_wav(tmp_path / "clip.wav", excerpt(2, 5.0, 6.0))
        with Searcher.open(store) as searcher:
            (match,) = searcher.query(clip).matches
        found.append((match.track.path, match.track_start, match.score, match.p_false))
    assert found[0] == found[1]


def test_an_exception_in_the_observer_loses_nothing(plugged, music, tmp_path):
    def observe(event):
        if isinstance(event, FileOutcome):
            raise RuntimeError("the caller's fault")

    with pytest.raises(RuntimeError, match="the caller's fault"):
        index(tmp_path / "store", [music], backends=["loudest"], observer=observe)
    with Store.open(tmp_path / "store", write=True) as store:
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert len(snapshot) == 4


def test_a_recording_of_many_windows_needs_a_smaller_p(plugged, music, tmp_path):
    index(tmp_path / "store", [music], backends=["loudest"])
    clip = write_wav(tmp_path / "clip.wav", excerpt(2, 5.0, 6.0))
    filler = np.concatenate([song(seed, seconds=50.0) for seed in (70, 71)])
    padded = write_wav(tmp_path / "padded.wav", np.concatenate([excerpt(2, 5.0, 6.0), filler]))
    with Searcher.open(tmp_path / "store") as searcher:
        (alone,) = searcher.query(clip, max_p=1.0).matches
        long = searcher.query(padded, max_p=1.0, limit=4)
    match = next(match for match in long.matches if match.track == alone.track)
    assert match.p_false > alone.p_false
    assert long.seconds == pytest.approx(106.0)


def test_a_searcher_needs_a_backend_that_the_store_has(plugged, music, tmp_path):
    index(tmp_path / "store", [music], backends=["loudest"])
    with pytest.raises(UsageError, match="no backend is called 'Shazam'") as caught:
        Searcher.open(tmp_path / "store", "Shazam")
    assert "afp index" not in caught.value.hint
    with pytest.raises(UsageError, match="nothing of backend 'slow'"):
        Searcher.open(tmp_path / "store", "slow")
    with Store.open(tmp_path / "empty", write=True):
        pass
    with pytest.raises(StoreError, match="the store is empty"):
        Searcher.open(tmp_path / "empty")


def test_another_version_of_a_backend_is_refused(plugged, music, tmp_path, monkeypatch):
    index(tmp_path / "store", [music], backends=["loudest"])
    with Store.open(tmp_path / "store") as store:
        backend = backend_of_store(store)
        monkeypatch.setattr(type(backend), "version", 2)
        with pytest.raises(StoreError, match=r"version 1 of backend 'loudest'.*version 2"):
            backend_of_store(store)


def test_choice_of_backends(plugged):
    assert [backend.name for backend in backends_to_index({}, ["slow", "loudest", "slow"])] == [
        "slow",
        "loudest",
    ]
    with pytest.raises(UsageError, match="parameters were given for 2 backends"):
        backends_to_index({}, ["slow", "loudest"], {"a": 1})
    with pytest.raises(UsageError, match="no backend is called 'nothing'"):
        backends_to_index({}, ["nothing"])


def test_interruption_notes_the_first_signal_and_restores_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert interruption.signal is None
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
