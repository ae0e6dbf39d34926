"""Fingerprint backends, found by name here and in the entry-point group ``afp.backends``."""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from afp.backends.protocol import Adopter, Backend, Parameter, Place, Verifier
from afp.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Adopter", "Backend", "Parameter", "Place", "Verifier", "create", "names"]

ENTRY_POINT_GROUP = "afp.backends"


def names() -> list[str]:
    """Return the names of all backends that are installed, sorted."""
    own = {module.name for module in iter_modules(__path__)} - {"protocol"}
    return sorted(own | _plug_ins().keys())


def create(name: str, **parameters: Parameter) -> Backend:
    """Build a backend by name.

    A module of this package holds one backend class, called ``Backend``; an entry point names
    such a class.

    Raises
    ------
    UsageError
        When no backend has that name or it does not take those parameters.
    """
    if name.isidentifier() and name != "protocol" and find_spec(f"{__name__}.{name}"):
        factory = import_module(f"{__name__}.{name}").Backend
    elif name in (plug_ins := _plug_ins()):
        try:
            factory = plug_ins[name].load()
        except Exception as error:  # another package's code
            raise UsageError(
                f"backend {name!r} cannot be loaded: {error}", hint="reinstall its package"
            ) from error
    else:
        raise UsageError(
            f"no backend is called {name!r}", hint=f"choose one of: {', '.join(names())}"
        )
    from inspect import signature

    taken = signature(factory).parameters
    for unknown in parameters.keys() - taken.keys():
        raise UsageError(
            f"backend {name!r} has no parameter {unknown!r}",
            hint=f"it takes: {', '.join(taken) or 'none'}",
        )
    try:
        backend: Backend = factory(**parameters)
    except (TypeError, ValueError) as error:
        raise UsageError(f"backend {name!r}: {error}") from None
    return backend


def _plug_ins() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # 15 ms that a query need not spend

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
