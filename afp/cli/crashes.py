"""Crashes told in one line: LMDB trusts its pages, and a map of a broken disk cannot be read.

What damage there is, LMDB mostly tells. Where it does not, or where the system fails to read a
page of a file that is mapped into memory, the process gets a signal that cannot be survived.
"""

import ctypes
import os
import signal

from afp.errors import ExitCode

_CRASHES = [
    getattr(signal, name) for name in ("SIGBUS", "SIGSEGV", "SIGABRT") if hasattr(signal, name)
]
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)


def tell_crashes() -> None:
    """Let a crash of this process, but not of those it forks, end in a line and an exit status.

    Python's own handlers run between its instructions, of which there is none any more.
    """
    install = ctypes.CDLL(None).signal
    install.argtypes, install.restype = (ctypes.c_int, _Handler), ctypes.c_void_p
    for number in _CRASHES:
        install(number, _END)
    os.register_at_fork(after_in_child=_restore)


def _restore() -> None:
    for number in _CRASHES:
        signal.signal(number, signal.SIG_DFL)


def _end(number: int) -> None:
    name = signal.Signals(number).name
    os.write(
        2,
        f"afp: error: ended by {name}: most likely the store is damaged, or its disk cannot be "
        "read\nhint: `afp check` tells whether the store is whole; with AFP_DEBUG=1 the system "
        "keeps what it knows of the crash\n".encode(),
    )
    os._exit(ExitCode.STORE)


_END = _Handler(_end)  # which must outlive the process
