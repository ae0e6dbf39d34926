"""Asking for memory ahead, in kernels that would wait for it."""

from functools import cached_property
from typing import Any

import numpy.typing as npt

CACHE_LINE = 64
"""Bytes that come from memory at once."""


class Prefetch:
    """What kernels call as ``prefetch(array, i)``: item i of a flat array is read soon.

    It changes nothing but the time; in Python it does nothing. i must be in the array.
    """

    def __call__(self, array: npt.NDArray[Any], i: int) -> None:
        """Do nothing."""

    @cached_property
    def _numba_type_(self) -> Any:
        """What numba takes this object for; only now is numba imported."""
        from llvmlite import ir
        from numba.core import types
        from numba.core.registry import cpu_target
        from numba.extending import intrinsic

        def prefetch(_context, array, i):  # type: ignore[no-untyped-def]
            def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
                data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
                byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
                item = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
                kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
                hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
                # To be read, kept in all caches, data.
                builder.call(hint, [item, number(0), number(3), number(1)])
                return context.get_dummy_value()

            return types.void(array, i), generate

        made = intrinsic(prefetch)
        cpu_target.typing_context.refresh()
        return cpu_target.typing_context.resolve_value_type(made)


prefetch = Prefetch()
