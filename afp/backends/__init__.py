"""Fingerprint backends, found by name here and in the entry-point group ``afp.backends``."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from afp.backends.protocol import Backend, Parameter
from afp.errors import UsageError

__all__ = ["Backend", "Parameter", "create", "names"]

ENTRY_POINT_GROUP = "afp.backends"


def names() -> list[str]:
    """Return the names of all backends that are installed, sorted."""
    own = {module.name for module in iter_modules(__path__)} - {"protocol"}
    return sorted(own | {point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def create(name: str, **parameters: Parameter) -> Backend:
    """Build a backend by name.

    A module of this package holds one backend class, called as its ``Backend`` attribute;
    an entry point names such a class.

    Raises
    ------
    UsageError
        When no backend has that name or it does not take those parameters.
    """
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name in points:
        factory = points[name].load()
    elif name in names():
        factory = import_module(f"{__name__}.{name}").Backend
    else:
        raise UsageError(
            f"no backend is called {name!r}", hint=f"choose one of: {', '.join(names())}"
        )
    try:
        backend: Backend = factory(**parameters)
    except (TypeError, ValueError) as error:
        raise UsageError(f"backend {name!r}: {error}") from None
    return backend
