"""Nothing runs what a file, a tag, a store or a model says: no shell, no pickle, no eval."""

import ast
from pathlib import Path

import pytest

import afp

PACKAGE = Path(afp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Modules that make code of data, and who may import them.
IMPORTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("pickle", "marshal", "shelve", "dill", "joblib", "yaml", "code"), frozenset()),
    # It pickles: what our own processes tell one another, never what a file holds.
    "multiprocessing": frozenset({"library/workers.py", "training/batches.py"}),
    "ctypes": frozenset(
        {
            *("audio/libsndfile.py", "cli/crashes.py", "compiled/kernel.py"),
            *("compiled/machine_code.py", "library/workers.py"),
        }
    ),
}
# Functions that make code of data, and who may call them.
CALLS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), frozenset()),
    **dict.fromkeys(("os.system", "os.popen", "os.execv", "os.startfile"), frozenset()),
    # With names out of our own lists alone: of commands, of backends and of what afp needs.
    "import_module": frozenset({"cli/__init__.py", "backends/__init__.py"}),
    "importlib.import_module": frozenset({"cli/doctor.py"}),
}
# Arguments that let data become code, or that keep it from doing so.
FORBIDDEN_ARGUMENTS = {"shell": False, "allow_pickle": False}
NEEDED_ARGUMENTS = {"torch.load": ("weights_only", True)}


def faults(source: str, name: str) -> list[str]:
    """Name what a module does that it must not, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            for module in modules:
                allowed = IMPORTS.get(module.partition(".")[0])
                if allowed is not None and name not in allowed:
                    found.append(f"{node.lineno}: imports {module}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS and name not in CALLS[called]:
                found.append(f"{node.lineno}: calls {called}")
            given = {word.arg: word.value for word in node.keywords}
            for argument, harmless in FORBIDDEN_ARGUMENTS.items():
                value = given.get(argument)
                if value is not None and ast.unparse(value) != str(harmless):
                    found.append(f"{node.lineno}: {argument} in {called}")
            if called in NEEDED_ARGUMENTS:
                argument, needed = NEEDED_ARGUMENTS[called]
                if argument not in given or ast.unparse(given[argument]) != str(needed):
                    found.append(f"{node.lineno}: {called} without {argument}={needed}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_makes_code_of_data(path):
    assert faults(path.read_text(), path.relative_to(PACKAGE).as_posix()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "import multiprocessing.connection",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "import_module(name)",
    ],
)
def test_what_makes_code_of_data_is_seen(source):
    assert len(faults(source, "store/store.py")) == 1


def test_every_exception_is_needed():
    for name in set().union(*IMPORTS.values(), *CALLS.values()):
        assert faults((PACKAGE / name).read_text(), name="") != []
