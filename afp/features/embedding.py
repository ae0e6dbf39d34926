"""Embeddings of log-mel segments, by a trained net in an ONNX file."""

import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from afp.errors import UsageError
from afp.features import log_mel
from afp.fingerprint import F32

FORMAT = 1
"""Of the metadata and of what the net takes and gives."""

KIND = "afp-neural"

_HINT = "name a model.onnx that `afp train` has written"

_CODE = 127  # of the metadata's embeddings: that of 1
_BATCH = 32  # segments: what a net makes of them stays in the cache


def front_end() -> dict[str, float]:
    """Return the parameters of the front end that a net is trained behind."""
    return {
        "sample_rate": log_mel.SAMPLE_RATE,
        "n_fft": log_mel.N_FFT,
        "hop_length": log_mel.HOP_LENGTH,
        "n_frames": log_mel.N_FRAMES,
        "n_bands": log_mel.N_BANDS,
        "lowest_hz": log_mel.LOWEST_HZ,
        "highest_hz": log_mel.HIGHEST_HZ,
        "floor": log_mel.FLOOR,
    }


class Embedder:
    """A trained net, ready to run on one core.

    Parameters
    ----------
    model : bytes
        An ONNX file that ``afp train`` has exported.
    name : str
        Of the file, for errors.

    Raises
    ------
    UsageError
        When it is no such file, is truncated, or was made for another version of afp; when
        onnxruntime is missing or cannot run it.

    Attributes
    ----------
    dimensions : int
        Of an embedding.
    """

    def __init__(self, model: bytes, name: str) -> None:
        self._session, self._name = _session(model, name), name
        about = self._session.get_modelmeta().custom_metadata_map
        if about.get("kind") != KIND:
            raise UsageError(f"{name}: not a model that afp has made", hint=_HINT)
        if about.get("format") != str(FORMAT):
            raise UsageError(
                f"{name}: a model of format {about.get('format')!r}, this afp reads {FORMAT}",
                hint="use the version of afp that made it, or " + _HINT,
            )
        try:
            theirs = dict(json.loads(about.get("front_end", "")))
        except (TypeError, ValueError):
            raise UsageError(f"{name}: a model with damaged metadata", hint=_HINT) from None
        if theirs != (ours := front_end()):
            differing = [
                f"{key} {theirs.get(key)}, not {ours.get(key)}"
                for key in sorted({*ours, *theirs})
                if ours.get(key) != theirs.get(key)
            ]
            raise UsageError(
                f"{name}: trained behind another front end ({'; '.join(differing)})",
                hint="use the version of afp that made it, or train it again: afp train",
            )
        self.dimensions = int(self._session.get_outputs()[0].shape[1])
        self._plain, self._centres = about.get("plain", ""), about.get("centres", "")

    def plain(self) -> F32:
        """Return the embeddings (n, dimensions) of `afp.features.plain_sounds`.

        From the model's metadata: to compute them takes a fifth of a second.
        """
        if self._plain:
            return self._unpacked(self._plain)
        from afp.features.plain_sounds import plain_segments

        powers = log_mel.mel_powers(plain_segments())
        parts = [self(each, hop_frames=log_mel.N_FRAMES)[1] for each in powers]
        return np.concatenate(parts)

    def centres(self) -> F32:
        """Return the centres (c, dimensions) of the cells that embeddings are sorted into.

        They come with the model; one without them has none, which large stores are slower for.
        """
        return self._unpacked(self._centres)

    def _unpacked(self, text: str) -> F32:
        """Return the embeddings (n, dimensions) in a text of the metadata."""
        try:
            codes = np.frombuffer(base64.b64decode(text, validate=True), np.int8)
            codes = codes.reshape(-1, self.dimensions)
        except (binascii.Error, ValueError):
            raise UsageError(f"{self._name}: a model with damaged metadata", hint=_HINT) from None
        return codes.astype(np.float32) / np.float32(_CODE)

    def __call__(self, powers: F32, *, hop_frames: int) -> tuple[npt.NDArray[np.int64], F32]:
        """Embed the segments of a signal, but for silent ones.

        Parameters
        ----------
        powers : ndarray of float32, shape (n_frames, N_BANDS)
            As from `afp.features.log_mel.mel_powers`.
        hop_frames : int
            Frames from the start of a segment to that of the next.

        Returns
        -------
        places : ndarray of int64, shape (n,)
            Which of the segments are not silent, ascending.
        embeddings : ndarray of float32, shape (n, dimensions)
            Of length 1.
        """
        segments = log_mel.segments(powers, hop_frames=hop_frames)
        means = log_mel.segments(powers.mean(axis=1, keepdims=True), hop_frames=hop_frames)
        places = np.flatnonzero(means.mean(axis=(1, 2)) > log_mel.SILENCE)
        embeddings = np.empty((len(places), self.dimensions), np.float32)
        for start in range(0, len(places), _BATCH):
            batch = slice(start, start + _BATCH)
            embeddings[batch] = self._run(log_mel.normalised(segments[places[batch]]))
        return places, embeddings

    def overhanging(self, powers: F32, *, hop_frames: int) -> tuple[npt.NDArray[np.int64], F32]:
        """Embed the segments of a signal, and at either end one that sticks out.

        The frames that such a segment lacks, a hop at most, are at the mean of the others. A net
        that was trained on segments with parts cut out tells these, too.

        Parameters
        ----------
        powers, hop_frames
            As for a call.

        Returns
        -------
        places : ndarray of int64, shape (n,)
            As of a call; −1 is that of the segment which begins a hop before the signal.
        embeddings : ndarray of float32, shape (n, dimensions)
            Of length 1. None when there is no whole segment.
        """
        places, embeddings = self(powers, hop_frames=hop_frames)
        n_whole = len(log_mel.segments(powers, hop_frames=hop_frames))
        if not n_whole:
            return places, embeddings
        for edge in (-1, n_whole):
            segment = log_mel.padded_segment(powers, hop_frames * edge)
            if segment.any():
                at = 0 if edge < 0 else len(places)
                places = np.insert(places, at, edge)
                embeddings = np.insert(embeddings, at, self._run(segment[None])[0], axis=0)
        return places, embeddings

    def _run(self, segments: F32) -> F32:
        embeddings: F32
        (embeddings,) = self._session.run(None, {"segments": segments})
        return embeddings


def packed(embeddings: F32) -> str:
    """Write embeddings (n, d) as text for a model's metadata, in 8 bits a number."""
    return base64.b64encode(np.rint(embeddings * _CODE).astype(np.int8).tobytes()).decode()


def _session(model: bytes, name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"onnxruntime, which runs the model, cannot be loaded: {error}",
            hint="pip install onnxruntime",
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised, and told by us
    # A model may name files that hold its weights; ours never do, and there is none below this.
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, os.devnull)
    make: Callable[..., Any] = onnxruntime.InferenceSession
    try:
        return make(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever parsing a foreign or truncated file raises
        reason = str(error).splitlines()[0].rpartition(" : ")[2][:100]
        raise UsageError(
            f"{name}: no ONNX model, or a truncated one ({reason})", hint=_HINT
        ) from None
