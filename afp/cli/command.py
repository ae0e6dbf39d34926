"""Commands whose help ends with examples and exit statuses."""

from typing import Any

import click

from afp.cli import terminal

HELP = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command with examples.

    Parameters
    ----------
    examples : tuple of str
        Command lines.
    exit_statuses : mapping of int to str
        What the exit status tells, beyond success.
    """

    def __init__(
        self,
        *arguments: Any,
        examples: tuple[str, ...],
        exit_statuses: dict[int, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **{"context_settings": HELP, **options})
        self.examples = examples
        self.exit_statuses = exit_statuses or {}

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the arguments; ``--help`` is printed while that is done."""
        with terminal.writing():
            return super().make_context(*arguments, **options)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit statuses."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")
        if self.exit_statuses:
            with formatter.section("Exit status"):
                formatter.write_dl([(str(key), text) for key, text in self.exit_statuses.items()])
