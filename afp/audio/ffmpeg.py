"""The ffmpeg program, for what libsndfile cannot read."""

import os
import re
from types import TracebackType
from typing import Self

# Containers of audio. Playlists, manifests, scripts and images are not among them: they would
# make ffmpeg open other files that the input names.
_CONTAINERS = (
    "3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,"
    "libgme,libmodplug,libopenmpt,loas,m4a,matroska,mlp,mov,mp2,mp3,mp4,mpc,mpc8,mpeg,mpegts,nut,"
    "ogg,oma,rm,rso,shn,sox,tak,truehd,tta,voc,w64,wav,webm,wsd,wtv,wv,xwma"
)

# The input is standard input, opened anew by this name so that it can be sought in: no file name
# ever reaches the command line, where it could be taken for an option or an address.
_INPUT = "file:/dev/stdin"

_ARGUMENTS = (
    *("-nostdin", "-v", "error", "-threads", "1"),
    *("-protocol_whitelist", "file,pipe", "-format_whitelist", _CONTAINERS, "-i", _INPUT),
    *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"),
    *("-af", "asetpts=N/SR/TB"),  # broken timestamps are no matter to samples end to end
    *("-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
)


# What ffmpeg puts before a message: "[flac @ 0x5589868466c0] ", the name of the input, the stream.
_PREFIX = re.compile(rf"^(\[[^]]*\] |{_INPUT}: |Error while decoding stream #\S+: )+")


class Conversion:
    """A running ffmpeg that turns a file's first audio stream into a stream of float32 samples.

    All channels at the stream's own rate, as a Sun AU stream, whose header needs no length.

    Parameters
    ----------
    descriptor : int
        Of the file to convert; a regular file.

    Raises
    ------
    FileNotFoundError, PermissionError
        When there is no ffmpeg on the PATH that may be run.
    """

    def __init__(self, descriptor: int) -> None:
        import subprocess
        import tempfile

        os.lseek(descriptor, 0, os.SEEK_SET)
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - not a pipe: none may fill up
        try:
            self._process = subprocess.Popen(
                ("ffmpeg", *_ARGUMENTS),
                stdin=descriptor,
                stdout=subprocess.PIPE,
                stderr=self._messages,
            )
        except BaseException:
            self._messages.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._end()
        self._messages.close()

    def _end(self) -> int:
        """Wait for the end of the process, which must not wait for its samples to be read."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait()

    def fileno(self) -> int:
        """Return the descriptor of the pipe that the samples come from."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def failure(self) -> str | None:
        """Return, after the end of the samples, what ffmpeg complained about last, if anything."""
        status = self._end()
        self._messages.seek(max(self._messages.seek(0, os.SEEK_END) - 4096, 0))
        text = self._messages.read().decode("utf-8", "replace")
        if "matches no streams" in text:
            return "there is no audio in it"
        lines = [line.strip() for line in text.splitlines()]
        said = [line for line in lines if line and not line.startswith("Last message repeated")]
        if said:
            message = _PREFIX.sub("", said[-1])
            return "".join(c if c.isprintable() else "?" for c in message)  # may quote the file
        return f"ffmpeg ended with status {status}" if status else None
