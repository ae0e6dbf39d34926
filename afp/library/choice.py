"""Which backends to use, and with which parameters."""

from collections.abc import Mapping, Sequence

from afp.backends import Backend, Parameter, create
from afp.errors import StoreError, UsageError
from afp.store import BackendRecord, Store

DEFAULT_BACKEND = "shazam"


def backend_of_store(store: Store, name: str | None = None) -> Backend:
    """Build one of a store's backends, as it was when the store was made.

    Parameters
    ----------
    store : Store
        An open store.
    name : str, optional
        Else the only one, or `DEFAULT_BACKEND` among several, or the first by name.

    Raises
    ------
    UsageError
        When the store has no such backend.
    StoreError
        When the store is empty, or was built by another version of the backend.
    """
    records = store.backends()
    if not records:
        raise StoreError("the store is empty", hint="add music to it: afp index PATH")
    if name is None:
        name = DEFAULT_BACKEND if DEFAULT_BACKEND in records else min(records)
    if name not in records:
        raise UsageError(
            f"the store has nothing of backend {name!r}",
            hint=f"it has {', '.join(sorted(records))}; or: afp index -b {name} PATH",
        )
    record = records[name]
    backend = create(name, **record.parameters)
    if backend.version != record.version:
        raise StoreError(
            f"the store was built by version {record.version} of backend {name!r}, "
            f"this is version {backend.version}",
            hint="index the music again into a new store (-d)",
        )
    return backend


def backends_to_index(
    records: Mapping[str, BackendRecord],
    names: Sequence[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
) -> list[Backend]:
    """Build the backends that new tracks are to be fingerprinted with.

    Parameters
    ----------
    records : mapping of str to BackendRecord
        The backends that the store has.
    names : sequence of str
        Else all that the store has, else `DEFAULT_BACKEND`.
    parameters : mapping of str to parameter, optional
        On top of those that the store has recorded, which `Store.register` holds them against;
        for a single backend.

    Raises
    ------
    UsageError
        For an unknown backend or parameter, or parameters for several backends.
    """
    chosen = list(dict.fromkeys(names)) or sorted(records) or [DEFAULT_BACKEND]
    if parameters and len(chosen) > 1:
        raise UsageError(
            f"parameters were given for {len(chosen)} backends: {', '.join(chosen)}",
            hint="name one with -b, and index with one after the other",
        )
    recorded = {name: records[name].parameters if name in records else {} for name in chosen}
    return [create(name, **{**recorded[name], **(parameters or {})}) for name in chosen]
