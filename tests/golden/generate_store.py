"""The golden store of the current format: small, and of everything that a store can hold some.

Run ``python tests/golden/generate_store.py`` to write it anew, as long as its format is in no
release; from then on a change of layout raises `afp.store.FORMAT`, this makes the store of the new
format, and the older ones stay: `test_golden_store.py` opens them all.
"""

import json
import shutil
import sys
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from afp import backends
from afp.fingerprint import F32
from afp.store import FORMAT, Failure, NewTrack, Snapshot, Store, read_tracks
from afp.synthesis import song

FOLDER = Path(__file__).parent
SECONDS = 8.0
BACKENDS = ("neural", "philips", "shazam")
REMOVED = 2  # track id
ARTIST = "Synthétique"


def audio(number: int, sample_rate: int) -> F32:
    """Return the music of a track."""
    return song(100 + number, seconds=SECONDS, sample_rate=sample_rate)


def new_track(number: int, **changes: object) -> NewTrack:
    """Fingerprint a track with all backends."""
    made = [backends.create(name) for name in BACKENDS]
    values = {
        "content_id": f"{number:032x}",
        "path": f"/music/{number}.wav",
        "duration_seconds": SECONDS,
        "title": f"Song {number}",
        "artist": ARTIST,
        "size": 1000 + number,
        "mtime_ns": 1_700_000_000_000_000_000 + number,
        "fingerprints": {
            backend.name: backend.extract(audio(number, backend.sample_rate)) for backend in made
        },
    }
    return NewTrack(**{**values, **changes})  # type: ignore[arg-type]


def digests(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """Return a hash of all that the store has of each track and backend, by content id."""
    ids = [track.id for track in snapshot.tracks()]
    return {
        track.content_id: {
            name: blake2b(
                fingerprint.frames.astype("<u4").tobytes()
                + fingerprint.hashes.astype("<u4").tobytes()
                + fingerprint.payload,
                digest_size=8,
            ).hexdigest()
            for name, fingerprint in sorted(track.fingerprints.items())
        }
        for tracks in read_tracks(snapshot, ids, BACKENDS)
        for track in tracks
    }


def main() -> None:
    """Write the store, and beside it what it holds."""
    folder = FOLDER / f"store-v{FORMAT}"
    shutil.rmtree(folder, ignore_errors=True)
    with Store.open(folder, write=True) as store:
        for name in BACKENDS:
            backend = backends.create(name)
            store.register(
                name,
                version=backend.version,
                parameters=backend.parameters(),
                hop_seconds=backend.hop_seconds,
            )
        store.add([new_track(1), new_track(2)])
        store.add([new_track(1, path="/music/a copy.wav", fingerprints={})])
        store.flush()
        store.add([new_track(3, path="/music/\udcff\n3.wav", partial="it ends at 0:08")])
        store.flush()
        store.remove([REMOVED])
        store.add([new_track(4)])  # stays in tails
        store.record_failures([Failure("/music/broken.wav", 17, 18, "it holds no audio")])
        with store.snapshot() as snapshot:
            expected = {
                "byte_order": sys.byteorder,
                "backends": {name: asdict(each) for name, each in snapshot.backends.items()},
                "tracks": [asdict(track) for track in snapshot.tracks()],
                "paths": sorted(snapshot.paths()),
                "failures": [asdict(failure) for failure in snapshot.failures()],
                "digests": digests(snapshot),
            }
    for file in folder.glob("*lock*"):  # of this machine's processes
        file.unlink()
    path = FOLDER / f"store-v{FORMAT}.json"
    path.write_text(json.dumps(expected, indent=1) + "\n")
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {n_bytes} bytes")


if __name__ == "__main__":
    main()
