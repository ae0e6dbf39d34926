"""Functions on arrays and scalars that run as machine code."""

import ctypes
import hashlib
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from afp.compiled import cache

RESULT_TYPES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "void": (ctypes.c_void_p, lambda _: None),
    "int64": (ctypes.c_int64, int),
    "float64": (ctypes.c_double, float),
}
SCALARS = {"int64": "q", "float64": "d"}  # and what `struct` calls them
ADDRESS = "Q"
ITEM = r"boolean|u?int(?:8|16|32|64)|float(?:32|64)"
PARAMETER = rf"(?:({ITEM})\[((?:: ?, ?)*)::1\]|({'|'.join(SCALARS)}))"
SIGNATURE = rf"({'|'.join(RESULT_TYPES)})\((?:{PARAMETER}(?:, ?(?=\w)|(?=\))))*\)"

OPTIONS = {"nogil": True, "error_model": "numpy"}
BARE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}

Run = Callable[[bytes, tuple[Any, ...]], Any]

_kernels: list["Kernel"] = []
_lock = threading.RLock()


class Parameter(NamedTuple):
    """One argument of a kernel: a scalar where ``ndim`` is 0, else a C-contiguous array."""

    name: str
    type: str
    dtype: np.dtype[Any]
    ndim: int
    slot: str  # its eight bytes for `struct`: an array's address, a scalar's value


class Kernel:
    """A compiled function on C-contiguous arrays and scalars; made by `kernel`.

    A call releases the interpreter lock. Arrays that the kernel only reads may be read-only.

    Attributes
    ----------
    python : callable
        The original function.
    signature : str
        As declared.
    name : str
        Its module and qualified name.

    Raises
    ------
    TypeError
        When called with an argument that is not of the declared type and layout, or with a
        read-only array that it would write to.
    RuntimeError
        When the compiled code raises; kernels should not.
    """

    _object_files = os.environ.get("AFP_COMPILED") != "numba"

    def __init__(self, function: FunctionType, signature: str) -> None:
        self.python = function
        self.signature = signature
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self._parameters, result = _parse(signature, function.__code__)
        self._result_type, self._to_result = RESULT_TYPES[result]
        self._pack = struct.Struct("=" + "".join(p.slot for p in self._parameters)).pack
        self._arrays: list[tuple[int, np.dtype[Any], int, bool]] = []  # last: may be written to
        self._dispatchers: dict[bool, Any] = {}
        self._run: Run | None = None
        _kernels.append(self)

    def __call__(self, *arguments: Any) -> Any:
        """Check the arguments and run the machine code."""
        run = self._run or self.prepare()
        slots = list(arguments)
        try:
            for i, dtype, ndim, written in self._arrays:
                array = slots[i]
                if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
                    raise self._mismatch(arguments, i)
                flags = array.flags
                if not (flags.carray if written else flags.c_contiguous and flags.aligned):
                    raise self._mismatch(arguments, i)
                slots[i] = id(array)
            packed = self._pack(*slots)
        except (IndexError, OverflowError, struct.error):
            raise self._mismatch(arguments) from None
        return run(packed, arguments)

    def prepare(self) -> Run:
        """Load the kernel, or compile it and cache its machine code, and return what runs it.

        Raises
        ------
        numba.core.errors.NumbaError
            When numba cannot compile the function.
        """
        with _lock:
            if self._run is None:
                run = self._load() if Kernel._object_files else None
                self._run = run or self._dispatch()
            return self._run

    def _expect(self, written: bytes) -> None:
        """Check arguments from now on, writability where `written` is 1."""
        positions = (i for i, parameter in enumerate(self._parameters) if parameter.ndim)
        self._arrays = [(i, *self._parameters[i][2:4], bool(written[i])) for i in positions]

    def _load(self) -> Run | None:
        """Return what runs the kernel's machine code, None where that does not work."""
        try:
            from afp.compiled import machine_code

            key = self._key(machine_code.environment())
            symbol, count = f"afp_{key}", len(self._parameters)
            stored = cache.read(self.name, key)
            if stored is None:
                stored = machine_code.build(self._dispatcher(bare=True), symbol)
                cache.write(self.name, key, stored)
            address = machine_code.link(symbol, stored[count:])
        except Exception as error:  # whatever it is, numba itself still works
            from numba.core.errors import NumbaError

            if isinstance(error, NumbaError):  # a mistake in the kernel
                raise
            Kernel._object_files = False
            hint = "AFP_COMPILED=numba does so without asking"
            message = f"kernels start slowly, through numba ({hint}): {self.name}: {error!r}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
            return None
        self._expect(stored[:count])
        entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)(address)
        result_type, byref = self._result_type, ctypes.byref

        def run(packed: bytes, _arguments: tuple[Any, ...]) -> Any:
            result = result_type()
            if entry(packed, byref(result)):
                raise RuntimeError(f"kernel {self.name} raised an exception")
            return result.value

        return run

    def _dispatch(self) -> Run:
        """Return what runs the kernel through numba's dispatcher."""
        from numba.core.errors import TypingError

        self._expect(bytes(len(self._parameters)))
        dispatcher = self._dispatcher(bare=False)

        def run(_packed: bytes, arguments: tuple[Any, ...]) -> Any:
            pairs = zip(self._parameters, arguments, strict=True)
            values = [value if p.ndim else p.dtype.type(value) for p, value in pairs]
            try:
                return self._to_result(dispatcher(*values))
            except TypingError as error:
                raise TypeError(f"kernel {self.name}: {error}") from error
            except Exception as error:
                raise RuntimeError(f"kernel {self.name} raised an exception: {error!r}") from error

        return run

    def _dispatcher(self, *, bare: bool) -> Any:
        """Return numba's dispatcher: for the machine code alone, or to be called from Python."""
        import numba

        njit: Any = numba.njit
        with _lock:
            if bare not in self._dispatchers:
                if bare:  # the declared types, no wrapper for Python, no allocation
                    made = njit(self.signature, **OPTIONS, **BARE)(self.python)
                else:  # the types of each call: a read-only array is a type of its own to numba
                    made = self._cached(njit, numba.config)
                self._dispatchers[bare] = made
            return self._dispatchers[bare]

    def _cached(self, njit: Any, config: Any) -> Any:
        """Return a dispatcher with numba's own cache, in a folder for this state of the kernel.

        Numba alone would not notice a change in another module.
        """
        folder = cache.numba_folder(self.name, self._key(b""))
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            return njit(**OPTIONS, cache=folder is not None)(self.python)
        except RuntimeError:  # numba caches no function without a source file
            return njit(**OPTIONS)(self.python)
        finally:
            config.CACHE_DIR = before

    @property
    def _numba_type_(self) -> Any:
        """What numba takes this object for where another kernel calls it."""
        from numba.core import types

        return types.Dispatcher(self._dispatcher(bare=Kernel._object_files))

    def _key(self, environment: bytes) -> str:
        """Return the digest of everything that the machine code depends on."""
        digest = hashlib.blake2b(environment, digest_size=16)
        family = [self]
        for member in family:  # grows by the kernels that are called
            code = member.python.__code__
            digest.update(repr((member.name, member.signature, OPTIONS)).encode())
            digest.update(repr((code.co_code, code.co_names, code.co_consts)).encode())
            for value in _references(member.python):
                if isinstance(value, Kernel):
                    family += [value] * (value not in family)
                elif isinstance(value, np.ndarray):
                    digest.update(repr((value.dtype, value.shape)).encode() + value.tobytes())
                elif isinstance(value, int | float | tuple | str | np.generic):
                    digest.update(repr(value).encode())
        return digest.hexdigest()

    def _mismatch(self, arguments: tuple[Any, ...], position: int | None = None) -> TypeError:
        """Return the error that names the argument that does not fit: the first bad scalar."""
        if len(arguments) != len(self._parameters):
            counts = f"{len(self._parameters)} arguments, not {len(arguments)}"
            return TypeError(f"kernel {self.name} takes {counts}")
        if position is None:
            position = next(i for i, value in enumerate(arguments) if self._is_misfit(i, value))
        parameter, value = self._parameters[position], arguments[position]
        writable = "writable " * ((position, *parameter[2:4], True) in self._arrays)
        wanted = f"{parameter.name} must be {writable}{parameter.type}"
        return TypeError(f"kernel {self.name}: {wanted}, not {_describe(value)}")

    def _is_misfit(self, position: int, value: Any) -> bool:
        """Return whether a value is not what a scalar parameter takes."""
        parameter = self._parameters[position]
        try:
            struct.pack(parameter.slot, id(value) if parameter.ndim else value)
        except (OverflowError, struct.error):
            return True
        return False


def kernel(signature: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Compile a function on plain arrays and scalars, at its first call.

    The function allocates nothing: what it computes goes into arrays that the caller passes, or
    into one number that it returns. It may use ``math``, NumPy's scalars,
    `prefetch` and other kernels.

    Parameters
    ----------
    signature : str
        In numba's notation: ``"int64(uint32[::1], float32[:, ::1], int64)"``. Arrays are
        C-contiguous; scalars are int64 or float64, the result is one of these or void.

    Raises
    ------
    ValueError
        When the signature is not of that kind or does not fit the function.
    """

    def decorate(function: Callable[..., Any]) -> Kernel:
        if not isinstance(function, FunctionType):
            raise TypeError(f"{function!r} is not a plain function")
        return Kernel(function, signature)

    return decorate


def prepare() -> None:
    """Load or compile every kernel of the modules imported so far."""
    for each in _kernels:
        each.prepare()


def _parse(signature: str, code: CodeType) -> tuple[list[Parameter], str]:
    """Return the parameters of a function and the name of its result's type."""
    whole = re.fullmatch(SIGNATURE, signature)
    types = list(re.finditer(PARAMETER, signature.partition("(")[2]))
    names = code.co_varnames[: code.co_argcount]
    if whole is None or len(types) != len(names):
        raise ValueError(f"signature {signature!r} does not fit {code.co_qualname}")
    if any(isinstance(constant, CodeType) for constant in code.co_consts):
        raise ValueError(f"kernel {code.co_qualname} holds another function")
    parameters = []
    for name, found in zip(names, types, strict=True):
        item, axes, scalar = found.groups()
        if scalar:
            kind = np.dtype(scalar), 0, SCALARS[scalar]
        else:
            kind = np.dtype(item.replace("boolean", "bool")), axes.count(",") + 1, ADDRESS
        parameters.append(Parameter(name, found[0], *kind))
    return parameters, whole[1]


def _references(function: FunctionType) -> Iterator[Any]:
    """Yield the values that the names in a function stand for, one module deep."""
    code = function.__code__
    names = code.co_names
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += [cell.cell_contents for cell in function.__closure__ or ()]
    for value in values:
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in names if name in vars(value))


def _describe(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value!r:.40}"
    flags = value.flags
    layout = "C-contiguous" if flags.c_contiguous else "strided"
    access = "writable" if flags.writeable else "read-only"
    aligned = "" if flags.aligned else "unaligned "
    return f"{access} {aligned}{layout} {value.ndim}-dimensional {value.dtype}"
