"""Compiled kernels that start fast.

Numba compiles the hot loops, but importing it and loading a function from its own cache takes
about half a second, more than the rest of ``afp query`` together. The machine code itself needs
nothing of numba. So `kernel` keeps the object file of each kernel in a cache of its own and, from
the second run on, loads it with llvmlite alone (some 30 ms, most of them llvmlite's own import).
Numba is imported only to compile: at the first call ever, or after a kernel or the machine changed.

Should that fail on some platform, or numba's interior change, kernels run through numba's ordinary
dispatcher and its cache, slower to start and otherwise alike; ``AFP_COMPILED=numba`` asks for that.

This package may go, and `kernel` become ``numba.njit(cache=True)``, once numba itself starts as
fast; ``benchmarks/startup.py`` compares the two.
"""

from afp.compiled.cache import cache_directory
from afp.compiled.kernel import Kernel, kernel, prepare
from afp.compiled.prefetch import CACHE_LINE, prefetch

__all__ = ["CACHE_LINE", "Kernel", "cache_directory", "kernel", "prefetch", "prepare"]
