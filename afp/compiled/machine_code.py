"""Machine code of kernels: made with numba and LLVM, linked into the process with LLVM alone.

An object file holds one C function, ``int32 entry(const char *slots, void *result)``: the kernel
with everything that it calls. Each argument has a slot of eight bytes: a scalar, or the address of
a NumPy array object, whose data pointer and shape the entry reads itself (the layout is part of
NumPy's C ABI). It returns zero, or one where the kernel raised.
"""

import ctypes
import platform
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

import afp

SLOT_BYTES = 8
OBJECT_HEAD = object.__basicsize__  # bytes before the first field of an array object
READ_ONLY = {b"readonly", b"readnone"}  # attributes of a pointer
DATA, DIMENSIONS = OBJECT_HEAD, OBJECT_HEAD + 16  # char *data; int nd; npy_intp *dimensions


@cache
def environment() -> bytes:
    """Return everything but the kernel itself that its machine code depends on."""
    numba = find_spec("numba")  # looks it up, does not import it
    versions = [Path(__file__), Path(__file__).with_name("prefetch.py")]
    if numba is not None and numba.origin is not None:
        versions.append(Path(numba.origin).with_name("_version.py"))
    parts = [
        *(path.read_bytes() if path.exists() else b"" for path in versions),
        *(afp.__version__, llvmlite.__version__, sys.implementation.cache_tag, OBJECT_HEAD),
        *(llvm.get_process_triple(), llvm.get_host_cpu_name()),
        llvm.get_host_cpu_features().flatten(),
    ]
    return repr(parts).encode()


def build(dispatcher: Any, symbol: str) -> bytes:
    """Make machine code of a function that numba has compiled for one signature.

    Parameters
    ----------
    dispatcher : numba.core.dispatcher.Dispatcher
        The function, compiled for C-contiguous arrays and scalars.
    symbol : str
        The name of the entry.

    Returns
    -------
    bytes
        One byte per argument, 1 for an array that the function may write to, else 0; then the
        object file.

    Raises
    ------
    RuntimeError
        When the code needs something that is only there while numba is loaded.
    """
    from numba.core import types
    from numba.core.compiler_lock import global_compiler_lock

    (compiled,) = dispatcher.overloads.values()
    description = compiled.fndesc
    with global_compiler_lock:
        library = compiled.target_context.codegen().create_library(symbol)
        function = llvm.parse_bitcode(compiled.library._final_module.as_bitcode())
        _hide_all_but(description.llvm_func_name, function)
        library.add_llvm_module(function)
        library.add_ir_module(_entry_module(compiled, library, symbol))
        library.finalize()
        linked = llvm.parse_bitcode(library._final_module.as_bitcode())
    _hide_all_but(symbol, linked)

    declared = [each.name for each in _globals(linked) if each.is_declaration]
    foreign = [name for name in declared if not name.startswith("llvm.")]
    process = ctypes.CDLL(None)
    missing = [n for n in foreign if n.startswith(("Py", "_Py")) or not hasattr(process, n)]
    if missing:
        raise RuntimeError(f"not available outside numba: {', '.join(missing)}")

    # LLVM has found out which arrays are only read: the data pointer is part 4 of an array.
    arguments = linked.get_function(description.llvm_func_name).arguments
    attributes = {argument.name: set(argument.attributes) for argument in arguments}
    written = bytes(
        isinstance(each, types.Array) and not READ_ONLY & attributes.get(f"arg.{name}.4", set())
        for name, each in zip(description.args, description.argtypes, strict=True)
    )
    object_file: bytes = _target_machine().emit_object(linked)
    return written + object_file


def _globals(module: Any) -> list[Any]:
    return [*module.functions, *module.global_variables]


def _hide_all_but(name: str, module: Any) -> None:
    """Keep other definitions to the module: they are then optimised for it and collide nowhere."""
    for each in _globals(module):
        if not each.is_declaration and each.name != name:
            each.linkage = "internal"


def _entry_module(compiled: Any, library: Any, symbol: str) -> Any:
    """Return LLVM's intermediate code of the entry: unpack the slots, call, pack the result."""
    from llvmlite import ir
    from numba.core import types
    from numba.np import arrayobj

    context, description = compiled.target_context, compiled.fndesc
    arguments, result = description.argtypes, description.restype
    module = library.create_ir_module(symbol)
    pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(ir.IntType(32), [pointer, pointer]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())

    def field(base: Any, offset: int, llvm_type: Any) -> Any:
        address = builder.gep(base, [integer(offset)])
        return builder.bitcast(address, llvm_type.as_pointer())

    def array_value(array_type: Any, numpy_object: Any) -> Any:
        array = context.make_array(array_type)(context, builder)
        data = builder.load(field(numpy_object, DATA, array.data.type))
        dimensions = builder.load(field(numpy_object, DIMENSIONS, integer.as_pointer()))
        axes = range(array_type.ndim)
        shape = [builder.load(builder.gep(dimensions, [integer(axis)])) for axis in axes]
        item_bytes = integer(context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        strides = [item_bytes]
        for length in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        populate: Any = arrayobj.populate_array
        populate(array, data, shape, strides, item_bytes, meminfo=None)
        return array._getvalue()

    values = []
    for position, numba_type in enumerate(arguments):
        is_array = isinstance(numba_type, types.Array)
        held = pointer if is_array else context.get_data_type(numba_type)
        slot = field(entry.args[0], position * SLOT_BYTES, held)
        values.append(
            array_value(numba_type, builder.load(slot))
            if is_array
            else context.unpack_value(builder, numba_type, slot)
        )
    native_type = context.call_conv.get_function_type(result, arguments)
    native = ir.Function(module, native_type, description.llvm_func_name)
    status, value = context.call_conv.call_function(builder, native, result, arguments, values)
    if result != types.none:
        place = field(entry.args[1], 0, context.get_data_type(result))
        context.pack_value(builder, result, value, place)
    builder.ret(builder.zext(status.is_error, ir.IntType(32)))
    return module


def link(symbol: str, object_file: bytes) -> int:
    """Link an object file into the process and return the address of a function in it.

    Raises
    ------
    RuntimeError
        When the platform does not allow it.
    """
    engine = _engine()
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(object_file))
    engine.finalize_object()
    address: int = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"no function {symbol} in its object file")
    return address


@cache
def _engine() -> Any:
    probe = np.zeros((2, 3), np.uint8)
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != SLOT_BYTES:
        raise RuntimeError("needs CPython on a 64-bit platform")
    data = ctypes.c_void_p.from_address(id(probe) + DATA).value
    shape = ctypes.POINTER(ctypes.c_int64 * 2).from_address(id(probe) + DIMENSIONS).contents
    if data != probe.ctypes.data or tuple(shape) != probe.shape:
        raise RuntimeError("unknown layout of NumPy's arrays")
    module = llvm.parse_assembly("")
    module.triple = llvm.get_process_triple()
    return llvm.create_mcjit_compiler(module, _target_machine())


def _target_machine() -> Any:
    """Return LLVM's description of this machine, with the options that numba uses too."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if platform.machine().lower() in ("x86_64", "amd64") else "default",
        codemodel="jitdefault",
        jit=True,
    )
