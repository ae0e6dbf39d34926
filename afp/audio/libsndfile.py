"""libsndfile as a reader of streams: quiet, forward only, and asked what it noticed."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import soundfile

from afp.fingerprint import F32

LibsndfileError = soundfile.LibsndfileError

_UNKNOWN_FRAMES = (1 << 63) - 1  # SF_COUNT_MAX: a stream whose header says nothing
_UNREAD_BYTES = 4096  # more than the tags that end most files
_ID3V1_BYTES = 128

_OGG_HEADER_BYTES = 27  # the last of them counts the segments, whose lengths follow
_OGG_PAGE_BYTES = _OGG_HEADER_BYTES + 255 + 255 * 255  # at most

# libsndfile's log about a chunk of samples: "data : 3528000 (should be 2116782)".
_LOGGED_SIZE = re.compile(
    r"^\s*(?:data|SSND|riff|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)


class Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read once, from its start.

    Parameters
    ----------
    descriptor : int
        Of a file or pipe; it stays open when the stream is closed.
    """

    def __init__(self, descriptor: int) -> None:
        # A descriptor of its own: some releases close it when they cannot open it, asked or not.
        with _silence():
            super().__init__(os.dup(descriptor), closefd=True)

    def seekable(self) -> bool:
        """Say no: soundfile would else seek after each block, which fails in streamed FLAC."""
        return False

    def read_into(self, buffer: F32) -> int:
        """Fill ``buffer`` (n, channels) and return how many frames it got; 0 at the end.

        Raises
        ------
        LibsndfileError
            When decoding fails; `tell` then says how many frames were decoded so far.
        """
        with _silence():
            return int(self.buffer_read_into(buffer, "float32"))

    def claimed_frames(self, descriptor: int) -> int | None:
        """Return the file's length as far as its header can be believed, in frames."""
        if self.frames == _UNKNOWN_FRAMES:
            return None
        if self.format == "MP3" and not _has_xing_header(descriptor):
            # libsndfile's figure is a guess from the size of the first packet.
            return _vbri_frames(descriptor)
        return int(self.frames)

    def stopped_early(self, descriptor: int) -> bool:
        """Tell, at the end, whether the file goes on where libsndfile sees no more.

        That is so in chained Ogg streams, in MP3 of variable bit rate without a Xing header, and
        in what a recorder did not live to write the length of.
        """
        guessed = self.format == "MP3" and not _has_xing_header(descriptor)
        if self.format == "OGG" or guessed or self.frames == 0:
            unread = os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
            is_counted = self.format == "MP3" and _vbri_frames(descriptor) is not None
            return unread > (_ID3V1_BYTES if is_counted else _UNREAD_BYTES)
        return False

    def cut_short(self, descriptor: int) -> str | None:
        """Return what is known of a file whose end is missing, None of a whole one."""
        if self.format == "OGG" and (unit := _ogg_ends_within(descriptor)):
            return f"the Ogg stream ends in the middle of a {unit}"
        for said, found in _LOGGED_SIZE.findall(self.extra_info):
            if int(said) > int(found) and not _is_placeholder(int(said)):
                return f"{int(said) - int(found)} of {said} bytes of samples are missing"
        return None


def _is_placeholder(size: int) -> bool:
    """Tell whether a header's size was written before the size was known, as into a pipe."""
    return 0x7FFFF000 <= size <= 0x80000000 or size >= 0xFFFFF000


def _ogg_ends_within(descriptor: int) -> str | None:
    """Return what an Ogg file (RFC 3533) ends in the middle of, None where it is whole.

    The end-of-stream flag does not tell: who splits a stream into files often never sets it.
    """
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _OGG_PAGE_BYTES, max(size - _OGG_PAGE_BYTES, 0))
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return None  # something else follows the stream
    header, rest = tail[start:][:_OGG_HEADER_BYTES], tail[start:][_OGG_HEADER_BYTES:]
    n_segments = header[-1]
    segments = rest[:n_segments]
    if len(header) < _OGG_HEADER_BYTES or len(rest) < n_segments + sum(segments):
        return "page"
    return "packet" if segments[-1:] == b"\xff" else None


def _first_packet(descriptor: int) -> bytes:
    """Return the start of an MP3 file's first packet, behind its ID3v2 tag."""
    head = os.pread(descriptor, 10, 0)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = (byte & 0x7F for byte in head[6:])
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    return os.pread(descriptor, 256, start)


def _has_xing_header(descriptor: int) -> bool:
    """Tell whether an MP3 file says how many frames it has, where libsndfile looks for it."""
    packet = _first_packet(descriptor)
    return b"Xing" in packet or b"Info" in packet


def _vbri_frames(descriptor: int) -> int | None:
    """Return the length that Fraunhofer's encoders write, which libsndfile does not read."""
    packet = _first_packet(descriptor)
    if packet[36:40] != b"VBRI":
        return None
    is_mpeg1 = packet[1] >> 3 & 3 == 3
    return int.from_bytes(packet[50:54], "big") * (1152 if is_mpeg1 else 576)


def _find_c_stderr() -> tuple[ctypes.c_void_p, int, int] | None:
    """Return C's variable `stderr`, its value, and a FILE that swallows all; None without them."""
    try:
        libc = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(libc, "stderr")
        libc.fopen.restype = ctypes.c_void_p
        sink = libc.fopen(os.fsencode(os.devnull), b"w")
    except (OSError, ValueError, AttributeError):
        return None
    return (variable, variable.value, sink) if variable.value and sink else None


_C_STDERR = _find_c_stderr()


@contextmanager
def _silence() -> Iterator[None]:
    """Swallow what libmpg123 prints about damaged files; it has no switch that stops all of it.

    C's `stderr` is exchanged, not the descriptor behind it: Python's own messages still appear.
    """
    if _C_STDERR is None:
        yield
        return
    variable, value, sink = _C_STDERR
    variable.value = sink
    try:
        yield
    finally:
        variable.value = value
