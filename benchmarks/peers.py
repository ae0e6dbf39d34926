"""Figures of other tools on the same corpus, by condition as `afp bench` names it."""

from dataclasses import dataclass

SOURCE = "measured on the same audio corpus: 100 tracks (4 h) indexed, 100 queries a cell"
SECOND_SOURCE = "156 other tracks, noises and rooms of the same kind; 25 queries a cell"

# Top-1 track, in %, at 5 s and at 10 s; None: not run. Dejavu has no threshold: it names a track
# for every query. Panako (olaf) and Panako (panako) are its two strategies.
Row = tuple[int | None, int | None]
PEERS: dict[str, dict[str, Row]] = {
    "audfprint": {
        "clean": (95, 100),
        "mp3:kbps=32": (80, 99),
        "noise:snr=10": (74, 85),
        "noise:snr=5": (52, 70),
        "noise:snr=0": (38, 52),
        "white:snr=0": (38, 58),
        "pink:snr=0": (26, 46),
        "speed:percent=4": (0, 0),
        "pitch:semitones=1": (4, 8),
    },
    "Dejavu": {
        "clean": (100, 100),
        "mp3:kbps=32": (100, 100),
        "noise:snr=10": (94, 96),
        "noise:snr=5": (85, 95),
        "noise:snr=0": (78, 79),
        "white:snr=0": (58, 75),
        "pink:snr=0": (62, 80),
        "speed:percent=4": (3, 2),
        "pitch:semitones=1": (21, 23),
    },
    "Olaf": {
        "clean": (96, 99),
        "mp3:kbps=32": (86, 98),
        "noise:snr=10": (82, 95),
        "noise:snr=5": (56, 88),
        "noise:snr=0": (52, 72),
        "white:snr=0": (55, 69),
        "pink:snr=0": (42, 59),
        "speed:percent=4": (6, 20),
        "pitch:semitones=1": (5, 14),
    },
    "Panako (olaf)": {
        "clean": (85, 97),
        "mp3:kbps=32": (78, 95),
        "noise:snr=10": (None, 90),
        "noise:snr=5": (None, 81),
        "noise:snr=0": (39, 65),
        "white:snr=0": (None, 79),
        "pink:snr=0": (37, 58),
        "speed:percent=4": (None, 54),
        "pitch:semitones=1": (None, 27),
    },
    "Panako (panako)": {
        "clean": (67, 96),
        "mp3:kbps=32": (44, 89),
        "noise:snr=10": (None, 87),
        "noise:snr=5": (None, 74),
        "noise:snr=0": (23, 53),
        "white:snr=0": (None, 56),
        "pink:snr=0": (14, 45),
        "speed:percent=4": (None, 83),
        "pitch:semitones=1": (None, 86),
    },
    "chromaprint": {
        "clean": (100, 99),
        "mp3:kbps=32": (100, 100),
        "noise:snr=10": (100, 99),
        "noise:snr=5": (90, 93),
        "noise:snr=0": (46, 60),
        "white:snr=0": (100, 99),
        "pink:snr=0": (95, 96),
        "speed:percent=4": (15, 15),
        "pitch:semitones=1": (0, 0),
    },
}
# For conditions that the first table lacks; see SECOND_SOURCE.
PEERS_SECOND: dict[str, dict[str, Row]] = {
    "audfprint": {
        "noise:snr=-5": (20, 28),
        "room": (28, 36),
        "chang": (8, 28),
        "phone": (16, 24),
        "gsm:errors=0": (4, 52),
        "speed:percent=2": (0, 4),
    },
    "audfprint, density 100": {
        "noise:snr=-5": (68, 68),
        "room": (72, 96),
        "chang": (32, 72),
        "phone": (44, 56),
        "gsm:errors=0": (92, 100),
        "speed:percent=2": (56, 84),
    },
    "Olaf": {
        "noise:snr=-5": (44, 48),
        "room": (16, 32),
        "chang": (8, 16),
        "phone": (0, 0),
        "gsm:errors=0": (72, 88),
        "speed:percent=2": (44, 76),
    },
    "Panako (olaf)": {
        "noise:snr=-5": (32, 44),
        "room": (8, 12),
        "chang": (0, 8),
        "phone": (12, 8),
        "gsm:errors=0": (64, 88),
        "speed:percent=2": (64, 84),
    },
    "Panako (panako)": {
        "noise:snr=-5": (8, 28),
        "room": (0, 8),
        "chang": (0, 8),
        "phone": (0, 8),
        "gsm:errors=0": (24, 64),
        "speed:percent=2": (40, 80),
    },
    "Dejavu": {
        "noise:snr=-5": (72, 72),
        "room": (84, 88),
        "chang": (44, 72),
        "phone": (56, 56),
        "gsm:errors=0": (96, 100),
        "speed:percent=2": (0, 8),
    },
    "chromaprint": {
        "noise:snr=-5": (20, 28),
        "room": (12, 60),
        "chang": (4, 36),
        "phone": (4, 0),
        "gsm:errors=0": (100, 100),
        "speed:percent=2": (20, 68),
    },
}
PEER_SECONDS = (5, 10)
BYTES_PER_SECOND = {
    "audfprint": 147,
    "Dejavu": 28_600,
    "Olaf": 1475,
    "Panako (olaf)": 2000,
    "Panako (panako)": 1730,
    "chromaprint": 32,
}
NOT_COMPARED = {"pitch:semitones=1"}  # reported only: not what a constellation is for
DIFFERENT = {  # conditions that are not quite the same
    "phone": "without the microphone for the other tools: room, noise, MP3 32k, 300–3400 Hz"
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool's figure for a cell."""

    name: str
    percent: int


def peers(condition: str, seconds: float) -> list[Peer]:
    """Return every tool's figure for a cell, the best first."""
    if seconds not in PEER_SECONDS:
        return []
    column = PEER_SECONDS.index(int(seconds))
    found = []
    for table in (PEERS, PEERS_SECOND):
        for name, rows in table.items():
            percent = rows.get(condition, (None, None))[column]
            if percent is not None:
                found.append(Peer(name, percent))
    return sorted(found, key=lambda peer: -peer.percent)
