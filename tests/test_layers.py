"""Imports run down the layers only."""

import ast
from pathlib import Path

import pytest

import afp

PACKAGE = Path(afp.__file__).parent
# From the bottom up. Parts on one line do not know each other.
LAYERS = [
    {"errors"},
    {"fingerprint"},
    {"index", "compiled", "synthesis"},
    {"audio", "features", "matching"},
    {"backends", "store", "distort"},
    {"library"},
    {"bench", "training"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
ONLY_IMPORTER = {
    "lmdb": {"store"},
    "numba": {"compiled"},
    "llvmlite": {"compiled"},
    "soundfile": {"audio", "distort"},
    "soxr": {"audio", "distort"},
    "tinytag": {"audio"},
    "click": {"cli"},
    "rich": {"cli"},
    "torch": {"training"},
    "onnxruntime": {"features"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Absolute dotted names of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "afp":
                yield from (f"afp.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = part_of(path)
    if part == "__init__":
        assert not [name for name in imported(path) if name.startswith("afp.")]
        return
    assert part in LEVEL, f"{part} is in no layer"
    for name in imported(path):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "afp" and other in LEVEL and other != part:
            assert LEVEL[other] < LEVEL[part], f"{path}: {part} must not import {other}"
        if top in ONLY_IMPORTER:
            assert part in ONLY_IMPORTER[top], f"{path}: {part} must not import {top}"


def test_the_walk_sees_nested_imports(tmp_path):
    module = tmp_path / "x.py"
    module.write_text("def f():\n    from afp import cli\n    import lmdb.tool\n")
    assert list(imported(module)) == ["afp", "afp.cli", "lmdb.tool"]
