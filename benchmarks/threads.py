"""One thread for everything that computes, as figures per core need it."""

import os
import sys

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def bind_to_one() -> None:
    """Start the script again with its libraries bound to one thread, unless they are."""
    if any(os.environ.get(name) != "1" for name in NAMES):
        environment = {**os.environ, **dict.fromkeys(NAMES, "1")}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
