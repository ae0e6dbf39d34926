"""What the README shows exists."""

import ast
import re
import shlex
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click
import pytest

import afp
from afp.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGE = Path(afp.__file__).parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
HEADINGS = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)


def shell_text(language, block):
    """Return the commands of a block; in a console block those behind the prompt."""
    if language == "sh":
        return block
    if language == "console":
        return "\n".join(line[2:] for line in block.splitlines() if line.startswith("$ "))
    return ""


def afp_commands(text):
    """Yield the arguments of each call of afp in a shell script."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    # A comment would swallow the end of its line, and with it the end of the command.
    for token in [*lexer, "\n"]:
        if set(token) <= set("();<>|&\n"):
            if words and words[0] == "afp":
                yield words[1:]
            words = []
        else:
            words.append(token)


def without_comments(text):
    return re.sub(r"(^|\s)#.*$", r"\1", text, flags=re.MULTILINE)


SHELL = [shell_text(language, block) for language, block in BLOCKS]
INLINE = re.findall(r"`(afp [^`]+)`", README)
EXAMPLES = [
    arguments for text in (*SHELL, *INLINE) for arguments in afp_commands(without_comments(text))
]


def parse(arguments):
    """Parse a command line as afp would, without running it."""
    name, *rest = arguments
    if name not in COMMANDS:
        app.make_context("afp", list(arguments)).close()
        return
    command = app.get_command(click.Context(app), name)
    with suppress(click.exceptions.Exit):  # --help
        command.make_context(name, rest).close()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command):
    assert command in {arguments[0] for arguments in EXAMPLES}


@pytest.mark.parametrize("arguments", EXAMPLES, ids=" ".join)
def test_examples_parse(arguments):
    parse(arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("find . | afp query --no-such-option -", "--no-such-option"),
        ("afp ls && afp index -j many ~/Music  # why", "many"),
        ("afp qeury clip.wav", "qeury"),
    ],
)
def test_a_wrong_example_is_noticed(line, message):
    commands = list(afp_commands(without_comments(line)))
    assert commands
    with pytest.raises(click.UsageError, match=message):
        for arguments in commands:
            ctx = click.Context(app)
            app.resolve_command(ctx, list(arguments))
            parse(arguments)


def test_the_two_commands_are_shown():
    lines = {line for _, block in BLOCKS for line in block.splitlines()}
    assert "pip install . && afp demo" in lines
    assert "pip install '.[test]' && pytest" in lines


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_links_resolve(target):
    if target.startswith("#"):
        slugs = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in HEADINGS}
        assert target[1:] in slugs
    elif not target.startswith("https://"):
        assert (ROOT / target).exists()


def test_every_variable_is_told():
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    variables = set(re.findall(r"\bAFP_[A-Z_]+\b", source))
    assert {"AFP_DB", "AFP_CACHE"} <= variables
    assert not {name for name in variables if f"`{name}`" not in README}


def test_every_part_of_the_package_is_told():
    parts = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    parts -= {"__init__.py", "__main__.py", "__pycache__"}
    assert {"store", "cli"} <= parts
    tree = next(block for _, block in BLOCKS if block.startswith("afp/\n"))
    told = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    assert told == parts


IMPORTS = [
    (node.module, alias.name)
    for language, block in BLOCKS
    if language == "python"
    for node in ast.walk(ast.parse(block))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]


@pytest.mark.parametrize(("module", "name"), IMPORTS)
def test_python_names_exist(module, name):
    assert hasattr(import_module(module), name)


def test_every_promise_names_a_test_that_there_is():
    promises = README.partition("## What you can rely on")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:golden/)?test_\w+\.py)(?:::(test_\w+))?`", promises)
    assert len(named) > 30
    for file, test in named:
        source = (Path(__file__).parent / file).read_text()
        assert f"def {test or 'test_'}" in source, f"{file}::{test}"
