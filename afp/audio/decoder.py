"""Audio files and streams, decoded to blocks of mono samples."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np

from afp.audio.ffmpeg import Conversion
from afp.audio.libsndfile import LibsndfileError, Stream
from afp.audio.source import Source, name_of, opened
from afp.errors import InputError
from afp.fingerprint import F32

BLOCK_FRAMES = 1 << 16

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 24_576_000
"""In Hz. The fastest recorders of single bits take 512 times 48,000 of them a second."""

MAX_HOURS = 50
"""Silence compresses so well that a file of a megabyte may hold a year."""

# Encoders disagree on whether the first or last packet counts: two packets of MP3.
_TOLERANCE_FRAMES = 2 * 1152

# Full scale is 1. Files of unscaled integers reach 2**31; beyond, squares soon overflow float32.
_LOUDEST = np.float32(2.0**32)


def decode(source: Source, *, block_frames: int = BLOCK_FRAMES) -> "Decoder":
    """Open audio for decoding, as a context manager that iterates over mono blocks.

    Parameters
    ----------
    source : path or binary file
        A file, a named pipe, or an open binary stream such as standard input, which is copied to
        a temporary file first.
    block_frames : int
        The most samples that are decoded at once, over all channels: bounds the memory.

    Raises
    ------
    InputError
        When the source cannot be read, or holds no audio that can be decoded. Its ``__cause__``
        is an OSError in the first case alone: the file may be sound, and readable another day.
    """
    return Decoder(source, block_frames)


class Decoder:
    """Audio being decoded: iterate once for its blocks, float32 arrays of shape (n,).

    A block is the mean over the channels; NaN and infinity are replaced by 0. libsndfile decodes;
    where it cannot, or stops before the end, the ffmpeg program does, from the very sample on
    that libsndfile did not deliver. What follows after `MAX_HOURS` is not read. `partial` and
    `duration_seconds` are final after the last block.

    Attributes
    ----------
    sample_rate : int
        The audio's own, in Hz.
    partial : str or None
        Why some of the audio could not be decoded; None when all of it was.
    """

    sample_rate: int
    partial: str | None

    def __init__(self, source: Source, block_frames: int = BLOCK_FRAMES) -> None:
        self.sample_rate = 0
        self.partial = None
        self._name = name_of(source)
        self._block_frames = block_frames
        self._n_frames = 0
        self._claimed_frames: int | None = None
        with ExitStack() as stack:
            self._descriptor = stack.enter_context(opened(source))
            self._blocks = self._decode()
            stack.callback(self._blocks.close)
            # The first block decides now whether there is any audio, and at which rate.
            self._first: F32 | None = next(self._blocks)
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding and let go of the file and of ffmpeg; done by the context manager."""
        self._resources.close()

    def __iter__(self) -> Iterator[F32]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._blocks

    @property
    def duration_seconds(self) -> float:
        """Length of the audio decoded so far, in seconds."""
        return self._n_frames / self.sample_rate

    def _decode(self) -> Generator[F32, None, None]:
        """Yield all blocks, at least one, then say in `partial` what is missing."""
        cause, cut, go_on = yield from self._decode_with_libsndfile()
        hint = "is it an audio file, and complete?"
        if go_on and not self._is_long_enough:
            try:
                cause = yield from self._decode_with_ffmpeg()
            except (FileNotFoundError, PermissionError):
                hint = "install the ffmpeg program, which reads more formats"
                cause = f"{cause or 'libsndfile stops before its end'} ({hint})"
        if self._n_frames == 0:
            if cause is None:
                raise InputError(f"{self._name}: holds no audio", hint=hint)
            cause = cause.removesuffix(f" ({hint})")
            raise InputError(f"{self._name}: cannot be decoded: {cause}", hint=hint)
        if self._is_long_enough:
            self.partial = f"{MAX_HOURS} hours decoded: more of one recording is not read"
        elif self._claimed_frames is None:
            self.partial = cause or cut
        elif self._n_frames < self._claimed_frames - _TOLERANCE_FRAMES:
            claimed_seconds = self._claimed_frames / self.sample_rate
            self.partial = (
                f"{self.duration_seconds:.1f} of {claimed_seconds:.1f} s decoded: "
                f"{cause or cut or 'the rest is damaged or missing'}"
            )
        else:
            self.partial = cut

    def _decode_with_libsndfile(
        self,
    ) -> Generator[F32, None, tuple[str | None, str | None, bool]]:
        """Return why it failed, what it knows to be missing, and whether ffmpeg may know more."""
        try:
            stream = Stream(self._descriptor)
        except LibsndfileError as error:
            return _in_words(error), None, True
        with stream:
            self._set_rate(stream.samplerate)
            self._claimed_frames = stream.claimed_frames(self._descriptor)
            cause = yield from self._read(stream)
            cut = stream.cut_short(self._descriptor)
            return cause, cut, cause is not None or stream.stopped_early(self._descriptor)

    def _decode_with_ffmpeg(self) -> Generator[F32, None, str | None]:
        """Go on where libsndfile stopped; return why ffmpeg stopped before the end, if it did."""
        with Conversion(self._descriptor) as conversion:
            try:
                stream = Stream(conversion.fileno())
            except LibsndfileError as error:
                return conversion.failure() or _in_words(error)
            with stream:
                if self._n_frames == 0:
                    self._set_rate(stream.samplerate)
                elif stream.samplerate != self.sample_rate:
                    return "libsndfile and ffmpeg disagree on its sample rate"
                yield from self._read(stream, skip=self._n_frames)
            return conversion.failure()

    @property
    def _is_long_enough(self) -> bool:
        return self._n_frames >= MAX_HOURS * 3600 * max(self.sample_rate, 1)

    def _set_rate(self, sample_rate: int) -> None:
        if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
            raise InputError(
                f"{self._name}: a sample rate of {sample_rate} Hz holds no sound",
                hint="its header may be damaged",
            )
        self.sample_rate = sample_rate

    def _read(self, stream: Stream, skip: int = 0) -> Generator[F32, None, str | None]:
        """Yield what follows the first ``skip`` frames of ``stream``; return what stopped it."""
        n_channels = stream.channels
        buffer = np.empty((max(self._block_frames // n_channels, 1), n_channels), np.float32)
        position = 0
        while True:
            cause = None
            try:
                n = stream.read_into(buffer)
            except LibsndfileError as error:
                cause = _in_words(error)
                n = min(max(stream.tell() - position, 0), len(buffer))  # decoded before the fault
            block = _to_mono(buffer[max(skip - position, 0) : n])
            position += n
            if len(block):
                self._n_frames += len(block)
                yield block
            if n == 0 or cause is not None or self._is_long_enough:
                return cause


def _to_mono(frames: F32) -> F32:
    """Average ``frames`` (n, channels) over the channels, into an array of its own (n,)."""
    mono = frames[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in range(1, frames.shape[1]):  # ten times faster than mean(axis=1)
            mono += frames[:, channel]
        if frames.shape[1] > 1:
            mono /= np.float32(frames.shape[1])
        if len(mono) and not (mono.max() <= _LOUDEST and mono.min() >= -_LOUDEST):  # or NaN
            np.nan_to_num(mono, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.clip(mono, -_LOUDEST, _LOUDEST, out=mono)
    return mono


def _in_words(error: LibsndfileError) -> str:
    return str(error.error_string).strip().removeprefix("Error : ").rstrip(".")
