"""Grids that have a name: what ``--preset`` takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """Distortions and lengths of queries.

    Attributes
    ----------
    help : str
    distortions : tuple of str
        See `afp.distort.parse`.
    seconds : tuple of float
        Lengths of queries.
    """

    help: str
    distortions: tuple[str, ...]
    seconds: tuple[float, ...]


# Chang et al., ICASSP 2021, table 3.
_LENGTHS = (1.0, 2.0, 3.0, 5.0, 6.0, 10.0)

_CODECS = (
    "mp3:kbps=16,32,64,128",
    "aac:kbps=32,64",
    "opus:kbps=8,16,32",
    "vorbis:kbps=48",
    "gsm",
    "amr:kbps=4.75,12.2",
)

PRESETS = {
    "quick": Preset(
        "a first look: some minutes",
        ("clean", "noise:snr=0,10", "room", "mp3:kbps=32", "speed:percent=2", "phone"),
        (5.0,),
    ),
    "chang": Preset(
        "room and noise at 0 to 10 dB, 1 to 10 s (Chang et al. 2021)", ("clean", "chang"), _LENGTHS
    ),
    "codecs": Preset("what encoders leave", _CODECS, (3.0, 5.0)),
    "full": Preset(
        "nearly every family: hours",
        (
            "clean",
            "noise:snr=-10,-5,0,5,10,15,20",
            "white:snr=0,10",
            "pink:snr=0,10",
            "room",
            "reverb:t60=0.2,0.5,0.8",
            "room+noise:snr=0,5,10",
            "echo",
            "loudspeaker+microphone",
            *_CODECS,
            "telephone",
            "lowpass",
            "highpass",
            "equaliser:db=3,6,12",
            "allpass",
            "clip",
            "compression",
            "companding",
            "gain",
            "speed:percent=-10,-6,-4,-2,-1,1,2,4,6,10",
            "tempo:percent=-10,-4,-2,2,4,10",
            "pitch:semitones=-2,-1,-0.5,0.5,1,2",
            "phone",
            "radio",
            "chang",
        ),
        _LENGTHS,
    ),
    # Haitsma and Kalker, ISMIR 2002, tables 1 and 2: 3.3 s are 256 sub-fingerprints and a frame.
    # Opus stands for RealAudio, bit errors for a bad GSM channel, a loudspeaker, a drift of speed
    # and noise for the way through the air, 24 dB for 512 steps of 16 bits.
    "haitsma": Preset(
        "after the tables of Haitsma and Kalker 2002",
        (
            "mp3:kbps=128,32",
            "opus:kbps=16",
            "gsm:errors=0,1",
            "allpass",
            "companding",
            "equaliser:db=3",
            "echo:ms=100,percent=50",
            "bandpass:low=100,high=6000",
            "tempo:percent=-4,4",
            "speed:percent=-4,-1,1,4",
            "white:snr=24",
            "resample:hz=11025",
            "loudspeaker+speed:percent=-0.1..0.1+white:snr=40",
        ),
        (3.3,),
    ),
}
