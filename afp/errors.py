"""The few ways in which afp fails, each with a remedy and an exit status."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of the command line."""

    OK = 0
    NO_MATCH = 1
    USAGE = 2
    INPUT = 3
    STORE = 4
    INTERRUPTED = 130


class AfpError(Exception):
    """An error that a user can understand and mend.

    Parameters
    ----------
    message : str
        One line: what went wrong, and where.
    hint : str, optional
        One line: what to do about it.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(AfpError):
    """An argument, parameter or combination of them that cannot work."""


class InputError(AfpError):
    """An input file that cannot be read or decoded."""

    exit_code = ExitCode.INPUT


class OutputError(AfpError):
    """Standard output cannot be written to."""

    exit_code = ExitCode.INPUT


class StoreError(AfpError):
    """A store that cannot be opened, read or written."""

    exit_code = ExitCode.STORE
