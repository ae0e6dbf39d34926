import math
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba.core.errors import NumbaError

import afp
from afp.compiled import CACHE_LINE, Kernel, cache_directory, kernel, machine_code, prefetch
from afp.compiled import cache as kernel_cache

REPOSITORY = Path(__file__).parents[1]
SCALE = 3
OFFSET = 0


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFP_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


def norm(x, power):
    total = 0.0
    for value in x:
        total += math.exp(-abs(value)) + abs(value) ** power
    return math.sqrt(total)


def rows(matrix, norms):
    for i in range(matrix.shape[0]):
        norms[i] = norm_kernel(matrix[i], 2.0)


def count(flags, codes, cube, wanted, factor):
    hits = 0
    for i in range(codes.size):
        if not flags[i] and (codes[i] ^ wanted) & np.uint32(1) == 0:
            hits += codes[i] // np.uint32(SCALE)
    for i in range(cube.shape[0]):
        for j in range(cube.shape[1]):
            for k in range(cube.shape[2]):
                hits += int(factor * cube[i, j, k])
    return hits


def narrow(bytes_, shorts, out):
    for i in range(out.size):
        out[i] = bytes_[i] * shorts[i]


def fail(x):
    if x > 3:
        raise ValueError("too large")
    return x


def shift(n):
    return n + OFFSET


def ahead(codes, places):
    total = 0
    for i in range(places.size):
        prefetch(codes, places[min(i + 2, places.size - 1)])
        total += int(codes[places[i]])
    return total


norm_kernel = kernel("float64(float32[::1], float64)")(norm)
SIGNATURES = {
    norm: "float64(float32[::1], float64)",
    rows: "void(float32[:, ::1], float64[::1])",
    count: "int64(boolean[::1], uint32[::1], int16[:, :, ::1], int64, float64)",
    narrow: "void(uint8[::1], int16[::1], int64[::1])",
    fail: "float64(float64)",
    ahead: "int64(int8[::1], int64[::1])",
}


@pytest.fixture(scope="module", params=["object", "numba"])
def compiled(request):
    """Return what compiles a function once, for either way of running it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "_object_files", request.param == "object")

        @cache
        def compile_once(function):
            made = kernel(SIGNATURES[function])(function)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made.prepare()
            assert Kernel._object_files == (request.param == "object")
            return made

        yield compile_once


def arrays(dtype, shape, **elements):
    return hnp.arrays(dtype, shape, elements=elements or None)


finite = {"min_value": -10, "max_value": 10}
lengths = st.integers(0, 20)


@given(x=arrays(np.float32, lengths, **finite), power=st.floats(0.5, 3), read_only=st.booleans())
@settings(deadline=None, max_examples=50)
def test_float_result(compiled, x, power, read_only):
    x.flags.writeable = not read_only
    assert compiled(norm)(x, power) == pytest.approx(norm(x, power), rel=1e-5)


@given(x=arrays(np.float32, st.tuples(lengths, lengths), **finite))
@settings(deadline=None, max_examples=50)
def test_kernel_calls_kernel_and_writes(compiled, x):
    norms = np.full(len(x), -1.0)
    assert compiled(rows)(x, norms) is None
    np.testing.assert_allclose(norms, [norm(row, 2.0) for row in x], rtol=1e-5)


@given(
    codes=arrays(np.uint32, lengths),
    cube=arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=4)),
    wanted=st.integers(0, 2**32 - 1),
    factor=st.integers(-4, 4),
)
@settings(deadline=None, max_examples=50)
def test_integer_result_of_many_types(compiled, codes, cube, wanted, factor):
    flags = codes % 3 == 0
    expected = sum(int(c) // SCALE for c in codes[~flags & ((codes ^ np.uint32(wanted)) % 2 == 0)])
    expected += factor * int(cube.sum(dtype=np.int64))
    assert compiled(count)(flags, codes, cube, wanted, factor) == expected


@given(a=arrays(np.uint8, 7), b=arrays(np.int16, 7))
@settings(deadline=None, max_examples=20)
def test_narrow_types_and_subclasses(compiled, a, b):
    out = np.zeros(7, np.int64)
    compiled(narrow)(a.view(np.memmap), b, out)
    np.testing.assert_array_equal(out, a.astype(np.int64) * b)


@given(places=arrays(np.int64, lengths, min_value=0, max_value=8 * CACHE_LINE - 1))
@settings(deadline=None, max_examples=20)
def test_prefetch_changes_nothing(compiled, places):
    codes = np.arange(8 * CACHE_LINE).astype(np.int8)
    codes.flags.writeable = False
    assert compiled(ahead)(codes, places) == ahead(codes, places) == codes[places].sum()


def test_prefetch_is_in_the_machine_code():
    made = kernel(SIGNATURES[ahead])(ahead)._dispatcher(bare=True)
    for code in made.inspect_asm().values():  # as x86 and ARM call it
        assert re.search("prefetch|prfm", code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), 1.0), "norm: x must be float32.*, not writable .* 1-dimensional float64"),
        ((np.zeros((3, 1), np.float32), 1.0), "x must be .* not writable .* 2-dimensional float32"),
        ((np.zeros(6, np.float32)[::2], 1.0), "x must be .* not writable strided"),
        ((np.frombuffer(bytes(9), np.float32, 2, 1), 1.0), "x must be .* not read-only unaligned"),
        (([1.0], 1.0), r"x must be .*, not list \[1.0\]"),
        ((None, 1.0), "x must be .*, not NoneType None"),
        ((np.zeros(3, np.float32), "1"), "power must be float64, not str '1'"),
        ((np.zeros(3, np.float32),), "takes 2 arguments, not 1"),
        ((np.zeros(3, np.float32), 1.0, 2), "takes 2 arguments, not 3"),
    ],
)
def test_unfit_argument_is_named(compiled, arguments, message):
    with pytest.raises(TypeError, match=message):
        compiled(norm)(*arguments)


@pytest.mark.parametrize(
    ("wanted", "factor", "name"),
    [(2**63, 1, "wanted"), (1.5, 1, "wanted"), (1, 1j, "factor"), (1, 10**400, "factor")],
)
def test_unfit_scalar_is_named(compiled, wanted, factor, name):
    arguments = np.zeros(1, bool), np.zeros(1, np.uint32), np.zeros((1, 1, 1), np.int16)
    with pytest.raises(TypeError, match=f"count: {name} must be"):
        compiled(count)(*arguments, wanted, factor)


def test_output_must_be_writable(compiled):
    out = np.zeros(2)
    out.flags.writeable = False
    with pytest.raises(TypeError, match=r"rows: (norms must be writable|.*\n)"):
        compiled(rows)(np.ones((2, 2), np.float32), out)
    assert not out.any()


def test_exception_is_not_ignored(compiled):
    assert compiled(fail)(2) == 2
    with pytest.raises(RuntimeError, match="fail raised an exception"):
        compiled(fail)(4)


def test_every_kernel_of_the_package_is_an_object_file(monkeypatch):
    monkeypatch.setattr(Kernel, "_object_files", True)
    monkeypatch.delenv("AFP_CACHE")
    package = Path(afp.__file__).parent
    names = set()
    for path in package.rglob("*.py"):
        if "\n@kernel(" in path.read_text(encoding="utf-8"):
            module = import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
            made = [each for each in vars(module).values() if isinstance(each, Kernel)]
            names |= {each.name for each in made}
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                for each in made:
                    each.prepare()
    assert names


@pytest.mark.parametrize(
    "signature",
    [
        "int64(float32[::1], float64",
        "int64(float32[:], float64)",
        "int64(complex64[::1], float64)",
        "float32(float32[::1], float64)",
        "int64(float32[::1], float32)",
        "int64(float32[::1])",
        "int64(float32[::1] float64)",
        "int64()",
    ],
)
def test_unfit_signature_is_refused(signature):
    with pytest.raises(ValueError, match="does not fit"):
        kernel(signature)(norm)


def test_inner_function_is_refused():
    with pytest.raises(ValueError, match="holds another function"):
        kernel("int64(int64)")(lambda n: sum(i for i in range(n)))


def test_unresolved_symbol_falls_back_with_a_warning(monkeypatch):
    monkeypatch.setattr(Kernel, "_object_files", True)
    gamma = kernel("float64(float64)")(lambda x: math.gamma(x) + 1)
    with pytest.warns(RuntimeWarning, match="not available outside numba"):
        assert gamma(5.0) == pytest.approx(25.0)


@pytest.mark.parametrize("changed", ["environment", "build", "link"])
def test_change_of_interfaces_falls_back_with_a_warning(monkeypatch, tmp_path, changed):
    monkeypatch.setattr(Kernel, "_object_files", True)
    monkeypatch.setenv("AFP_CACHE", str(tmp_path))
    monkeypatch.delattr(machine_code, changed)
    with pytest.warns(RuntimeWarning, match="kernels start slowly.*has no attribute"):
        assert kernel(SIGNATURES[fail])(fail)(2.0) == 2.0


def test_mistake_in_a_kernel_is_not_taken_for_a_change(monkeypatch):
    monkeypatch.setattr(Kernel, "_object_files", True)
    mistaken = kernel("int64(int64)")(lambda n: n.nothing)
    with pytest.raises(NumbaError, match="Unknown attribute 'nothing'"):
        mistaken.prepare()
    assert Kernel._object_files


def test_threads_run_at_the_same_time(monkeypatch):
    @kernel("int64(int64[::1])")
    def wait(flag):
        for i in range(2_000_000_000):
            flag[1] = i
            if flag[0] != 0:
                return 1
        return 0

    monkeypatch.setattr(Kernel, "_object_files", True)
    wait(np.ones(2, np.int64))
    flag, results = np.zeros(2, np.int64), []
    threads = [threading.Thread(target=lambda: results.append(wait(flag))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.01)
    flag[0] = 1
    for thread in threads:
        thread.join()
    assert len(results) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_works_after_fork(compiled):
    x = np.ones(4, np.float32)
    expected = compiled(norm)(x, 2.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if compiled(norm)(x, 2.0) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


SOURCE = """
CONSTANT = 5

@kernel("int64(int64)")
def callee(n):
    return n + CONSTANT

@kernel("int64(int64)")
def caller(n):
    return callee(n) * 2
"""
PROGRAM = f"""
import sys
from afp.compiled import kernel
{SOURCE}
print(caller(4), "numba" in sys.modules)
"""
COMPILATIONS = f"""
import os
from numba.core import event
from afp.compiled import kernel
{SOURCE}
before = dict(os.environ)
with event.install_recorder("numba:compile") as recorder:
    print(caller(4))
print(len(recorder.buffer), before == dict(os.environ))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "compilations.py").write_text(COMPILATIONS)

    def run_program(program="program.py", **environment):
        environment = {"AFP_CACHE": str(tmp_path / "cache"), **environment}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AFP_", "XDG_"))}
        done = subprocess.run(
            [sys.executable, program],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split(), done.stderr

    return run_program


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Return what defines and calls the kernels as a fresh process would, counting builds."""
    built = []
    build = machine_code.build
    monkeypatch.setattr(Kernel, "_object_files", True)
    monkeypatch.setenv("AFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine_code, "build", lambda *args: built.append(1) or build(*args))

    def define_and_call(source=SOURCE):
        built.clear()
        names = {"kernel": kernel, "__name__": "fresh"}
        exec(source, names)
        return names["caller"](4), len(built)

    return define_and_call


def test_second_process_does_not_import_numba(run):
    assert run() == (["18", "True"], "")
    assert run() == (["18", "False"], "")


def test_second_process_through_numba_compiles_nothing(run, tmp_path):
    (result, events, unchanged), errors = run("compilations.py", AFP_COMPILED="numba")
    assert (result, unchanged, errors) == ("18", "True", "")
    assert int(events) > 0
    assert run("compilations.py", AFP_COMPILED="numba") == (["18", "0", "True"], "")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["numba"]
    assert not (tmp_path / "__pycache__").exists()


def test_numba_runs_what_has_no_source_file(fresh, monkeypatch):
    monkeypatch.setattr(Kernel, "_object_files", False)
    assert fresh() == (18, 0)


def test_change_of_callee_or_constant_compiles_again(fresh, tmp_path):
    assert fresh() == (18, 1)
    for old, new, result in [("n + C", "n * C", 40), ("T = 5", "T = 6", 20)]:
        assert fresh(SOURCE.replace(old, new)) == (result, 1)
        assert fresh(SOURCE.replace(old, new)) == (result, 0)
    assert fresh() == (18, 0)
    for constant in range(10, 13):
        assert fresh(SOURCE.replace("= 5", f"= {constant}")) == (2 * (4 + constant), 1)
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(names) == kernel_cache.ENTRIES_KEPT


def test_numba_s_cache_follows_constants(monkeypatch, tmp_path):
    monkeypatch.setattr(Kernel, "_object_files", False)
    monkeypatch.setenv("AFP_CACHE", str(tmp_path))
    for offset in range(kernel_cache.ENTRIES_KEPT + 2):
        monkeypatch.setitem(globals(), "OFFSET", offset)
        assert kernel("int64(int64)")(shift)(1) == 1 + offset
    assert len(list((tmp_path / "numba").iterdir())) == kernel_cache.ENTRIES_KEPT


def test_damaged_entry_is_rebuilt(fresh, tmp_path):
    fresh()
    (entry,) = (tmp_path / "cache").iterdir()
    intact = entry.read_bytes()
    for damaged in (b"", intact[:-100], intact[:200] + b"\xff" + intact[201:]):
        entry.write_bytes(damaged)
        assert fresh() == (18, 1)
        assert len(entry.read_bytes()) == len(intact)
    assert fresh() == (18, 0)


@pytest.mark.parametrize("object_files", [True, False])
def test_without_writable_directory_it_warns_once(fresh, monkeypatch, tmp_path, object_files):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFP_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(Kernel, "_object_files", object_files)
    kernel_cache._warn_without_directory.cache_clear()
    with pytest.warns(RuntimeWarning, match="set AFP_CACHE") as warned:
        assert fresh() == (18, int(object_files))
        assert fresh() == (18, int(object_files))
    assert len(warned) == 1


def test_user_directory_stands_in_for_the_package(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.delenv("AFP_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_directory() == Path(kernel_cache.__file__).with_name("__pycache__")
    monkeypatch.setattr(kernel_cache, "__file__", str(tmp_path / "file" / "cache.py"))
    assert cache_directory() == tmp_path / "user" / "afp"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "user"))
    assert cache_directory() is None


def test_processes_that_compile_at_once(run):
    with ThreadPoolExecutor() as pool:
        results = [future.result() for future in [pool.submit(run), pool.submit(run)]]
    assert [output[0] for output, _ in results] == ["18", "18"]
    assert run() == (["18", "False"], "")
