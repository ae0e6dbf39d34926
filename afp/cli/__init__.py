"""The command line: one file a command, imported when it is called."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword
from typing import Any

import click

from afp import __version__
from afp.cli import interrupt, terminal
from afp.cli.command import HELP
from afp.cli.crashes import tell_crashes
from afp.errors import AfpError, ExitCode, InputError, OutputError

COMMANDS = {
    "index": "Add music to the store.",
    "query": "Identify clips, or everything in a long recording.",
    "bench": "Measure how robust the backends are, on one's own music.",
    "train": "Train a neural fingerprinter on one's own music.",
    "ls": "List the tracks in the store.",
    "stats": "Tell what the store holds and what it costs.",
    "rm": "Remove tracks.",
    "prune": "Remove tracks whose files are gone.",
    "compact": "Rewrite the store in as little space as possible.",
    "check": "Verify that the store is whole.",
    "export": "Write tracks and fingerprints to a stream, without audio.",
    "import": "Add the tracks of a stream.",
    "merge": "Add the tracks of other stores.",
    "backends": "List the ways of fingerprinting and their parameters.",
    "doctor": "Tell whether everything that afp needs works here.",
    "demo": "Make a small music library, index it, and query it through noise.",
}


class _Commands(click.Group):
    """Imports ``afp.cli.<command>`` when that command is called, and tells errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"afp.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with terminal.writing(), _printable_usage_errors():  # --help and --version
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                with _printable_usage_errors():
                    super().invoke(ctx)
            finally:
                terminal.flush()
        except AfpError as error:
            if os.environ.get("AFP_DEBUG"):
                raise
            terminal.error(error)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            terminal.silence_stdout()
            ctx.exit(128 + signal.SIGPIPE)
        except OSError as error:
            if os.environ.get("AFP_DEBUG"):
                raise
            where = f"{error.filename!s}: " if error.filename else ""
            terminal.error(InputError(f"{where}{error.strerror or error}"))
            ctx.exit(ExitCode.INPUT)


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Escape what click quotes: a file's name may look like an option, and get there by ``*``."""
    try:
        yield
    except click.UsageError as error:
        # Lines may be its own, as those of the help that it shows for lack of arguments.
        lines = map(terminal.printable, error.message.split("\n"))
        error.message = "\n".join(lines)  # type: ignore[misc]
        raise


@click.group(
    cls=_Commands,
    context_settings=HELP,
    epilog="Start with: afp demo. Then: afp index ~/Music, and afp query clip.wav.",
)
@click.version_option(__version__, prog_name="afp")
def app() -> None:
    """Name the music in a noisy clip: index a music folder once, query it in milliseconds."""


def main() -> None:
    """Run the command line."""
    _open_standard_streams()
    if not os.environ.get("AFP_DEBUG"):
        warnings.showwarning = terminal.show_warning
        tell_crashes()
    interrupt.install()
    try:
        app(prog_name="afp")
    except interrupt.Interrupted:
        interrupt.tell()
        raise
    except OutputError as error:
        terminal.error(error)
        raise SystemExit(error.exit_code) from None
    finally:
        interrupt.ignore()


def _open_standard_streams() -> None:
    """Put something behind the standard streams that the caller has closed.

    Else the next file to be opened, perhaps the store, would take the descriptor's place, and
    what is printed there would go into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, stream)
    if terminal.is_interactive() and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal's encoding lacks
