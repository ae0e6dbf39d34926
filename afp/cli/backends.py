"""``afp backends``."""

import inspect
from itertools import pairwise

import click

from afp.cli import options, terminal
from afp.cli.command import Command


@click.command(
    cls=Command,
    examples=("afp backends",),
)
@options.json
def command(*, as_json: bool) -> None:
    """List the backends, that is the ways of fingerprinting, and their parameters.

    `afp index -b NAME -p PARAMETER=VALUE` makes a store with them.
    """
    from afp.backends import create, names

    for name in names():
        try:
            backend = create(name)
        except Exception as error:  # a plug-in may raise anything
            _tell_broken(name, error, as_json=as_json)
            continue
        summary = (inspect.getdoc(type(backend)) or "").partition("\n")[0]
        parameters = backend.parameters()
        if as_json:
            terminal.json_line(
                {
                    "name": name,
                    "error": None,
                    "version": backend.version,
                    "summary": summary,
                    "sample_rate": backend.sample_rate,
                    "hop_seconds": backend.hop_seconds,
                    "parameters": parameters,
                }
            )
            continue
        terminal.line(f"{name} {backend.version}: {summary}")
        terminal.line(
            f"  {backend.sample_rate:,} Hz, a frame every {1000 * backend.hop_seconds:.3g} ms"
        )
        described = _described(type(backend))
        for parameter, default in parameters.items():
            terminal.line(f"  {parameter}={default}  {described.get(parameter, '')}".rstrip())


def _tell_broken(name: str, error: Exception, *, as_json: bool) -> None:
    reason = f"{type(error).__name__}: {error}"
    if as_json:
        terminal.json_line({"name": name, "error": reason})
    else:
        terminal.line(f"{name} cannot be used: {reason}")


def _described(backend: type) -> dict[str, str]:
    """Return the first line of each parameter's description in a numpydoc docstring."""
    described = {}
    lines = (inspect.getdoc(backend) or "").splitlines()
    section = ""
    for line, below in pairwise(lines):
        if below and set(below) == {"-"}:
            section = line
        elif section == "Parameters" and " : " in line and not line.startswith(" "):
            described[line.partition(" : ")[0]] = below.strip()
    return described
