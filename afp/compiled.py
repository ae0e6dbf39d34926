"""Compiled kernels."""

from collections.abc import Callable
from typing import Any

import numba


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function on plain arrays with numba."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return numba.njit(signature, cache=True, nogil=True)(function)  # type: ignore[no-any-return]

    return decorate
