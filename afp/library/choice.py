"""Which backends to use, and with which parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from afp.backends import Adopter, Backend, Parameter, Verifier, create
from afp.backends import names as names_of_backends
from afp.errors import AfpError, StoreError, UsageError
from afp.index import GAP_FRAMES
from afp.library.fusion import FUSED, Fusion
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
        held = f"it has {', '.join(sorted(records))}"
        if name not in names_of_backends():
            raise UsageError(f"no backend is called {name!r}", hint=held)
        raise UsageError(
            f"the store has nothing of backend {name!r}",
            hint=f"{held}; or: afp index -b {name} PATH",
        )
    return _built(name, records[name])


def searched(store: Store, name: str | None = None) -> Backend | Fusion:
    """Build what a store is searched with: one of its backends, or all that can be fused.

    Parameters
    ----------
    store : Store
        An open store.
    name : str, optional
        As for `backend_of_store`, or ``fused``.

    Raises
    ------
    UsageError
        When the store has no such backend, or for ``fused`` fewer than two that verify places.
    StoreError
        As for `backend_of_store`.
    """
    if name != FUSED:
        return backend_of_store(store, name)
    records = store.backends()
    if not records:
        raise StoreError("the store is empty", hint=_how_to_index(fusible()))
    here = set(names_of_backends())
    built = (_built(name, record) for name, record in sorted(records.items()) if name in here)
    parts = [backend for backend in built if isinstance(backend, Verifier)]
    if len(parts) < 2:
        held = {part.name for part in parts}
        raise UsageError(
            f"{FUSED!r} takes two of {', '.join(fusible())}; the store has {', '.join(records)}",
            hint=_how_to_index([name for name in fusible() if name not in held]),
        )
    return Fusion(parts)


def fusible() -> list[str]:
    """Return the names of the backends that can be fused, sorted."""
    found = []
    for name in names_of_backends():
        try:
            backend = create(name)
        except Exception:  # a plug-in may raise anything when it is imported
            continue
        if isinstance(backend, Verifier):
            found.append(name)
    return found


def _how_to_index(wanted: Iterable[str]) -> str:
    return f"add music to it: afp index {' '.join(f'-b {name}' for name in wanted)} PATH"


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
        On top of those that the store has recorded; for a single backend.

    Raises
    ------
    UsageError
        For an unknown backend or parameter, or parameters for several backends.
    StoreError
        When the store was built by another version of a backend, or with other parameters.
    """
    chosen = list(dict.fromkeys(names)) or sorted(records) or [DEFAULT_BACKEND]
    if parameters and len(chosen) > 1:
        raise UsageError(
            f"parameters were given for {len(chosen)} backends: {', '.join(chosen)}",
            hint="name one with -b, and index with one after the other",
        )
    if FUSED in chosen:
        raise UsageError(
            f"{FUSED!r} stores nothing of its own: it searches what others have indexed",
            hint=f"{_how_to_index(fusible())}; then afp query -b {FUSED} CLIP",
        )
    return [_built(name, records.get(name), parameters) for name in chosen]


def other_backends(
    records: Mapping[str, BackendRecord], chosen: Iterable[Backend]
) -> list[Backend]:
    """Build the backends that a store has beside the chosen ones, as far as they are here."""
    others = []
    for name in sorted(records.keys() - {backend.name for backend in chosen}):
        try:
            others.append(_built(name, records[name]))
        except Exception:  # a plug-in may raise anything when it is imported
            continue
    return others


def require_adoptable(ours: BackendRecord, theirs: BackendRecord, remedy: str) -> None:
    """Refuse fingerprints that an index must not be given.

    Parameters
    ----------
    ours : BackendRecord
        What the index is bound to.
    theirs : BackendRecord
        What the fingerprints were made with.
    remedy : str
        What to do about it.

    Raises
    ------
    StoreError
        When version, parameters or hop differ, and the backend does not take such ones as its own.
    """
    try:
        ours.require_same(theirs, remedy)
    except StoreError:
        try:
            backend = _built(ours.name, ours)
        except AfpError:
            backend = None  # not here, or of another version
        takes = isinstance(backend, Adopter) and backend.adopts(theirs.version, theirs.parameters)
        if not takes or ours.hop_seconds != theirs.hop_seconds:
            raise


def built_for_import(
    name: str, ours: BackendRecord | None, theirs: BackendRecord, remedy: str
) -> tuple[Backend, BackendRecord]:
    """Build the backend that is to search fingerprints from elsewhere, which it is held against.

    Parameters
    ----------
    name : str
        Of the backend.
    ours : BackendRecord or None
        What the store has of it.
    theirs : BackendRecord
        What the fingerprints were made with, as a stranger says.
    remedy : str
        What to do when the two differ.

    Returns
    -------
    Backend, BackendRecord
        The backend, and what the store's index is bound to, or will be.

    Raises
    ------
    UsageError
        When the backend is not here.
    StoreError
        When it does not take these fingerprints.
    """
    if name not in names_of_backends():
        raise UsageError(
            f"backend {name!r} is not here", hint="install it, or import the others alone with -b"
        )
    if ours is not None:
        backend = _built(name, ours)
    else:
        # A text may name a file to be read here, so that a stranger's is not tried out.
        numbers = {key: x for key, x in theirs.parameters.items() if not isinstance(x, str)}
        try:
            backend = create(name, **numbers)
        except UsageError:  # another version may have other parameters
            backend = create(name)
        ours = BackendRecord(0, name, backend.version, backend.parameters(), backend.hop_seconds)
        texts = [
            f"-p {key}={x}" for key, x in theirs.parameters.items() if isinstance(x, str) and x
        ]
        if texts:
            remedy = (
                "what a stream names is not read; where you trust it, index a file into this store "
                f"first: afp index -b {name} {' '.join(texts)} FILE"
            )
    require_adoptable(ours, theirs, remedy)
    return backend, ours


def _built(
    name: str, record: BackendRecord | None, parameters: Mapping[str, Parameter] | None = None
) -> Backend:
    """Build a backend with the recorded parameters and those, and hold it against the record."""
    recorded = {} if record is None else record.parameters
    if parameters:
        _require_kinds(create(name), parameters)
    try:
        backend = create(name, **{**recorded, **(parameters or {})})
    except UsageError:
        if record is not None:  # another version may have other parameters
            _require_version(record, create(name).version)
        raise
    if backend.window_seconds >= GAP_FRAMES * backend.hop_seconds:
        raise UsageError(
            f"backend {name!r} looks up {backend.window_seconds:g} s at a time; with frames of "
            f"{backend.hop_seconds:g} s it must be less than {GAP_FRAMES * backend.hop_seconds:g}",
            hint="that is for the author of the backend to mend: window_seconds, or hop_seconds",
        )
    if record is not None:
        _require_version(record, backend.version)
        record.require_same(
            replace(record, parameters=backend.parameters(), hop_seconds=backend.hop_seconds)
        )
    return backend


def _require_kinds(backend: Backend, parameters: Mapping[str, Parameter]) -> None:
    """Refuse a text where the backend's default is a number, and the like."""
    for name, default in backend.parameters().items():
        kind = _kind(default)
        if name in parameters and _kind(parameters[name]) != kind:
            raise UsageError(
                f"parameter {name!r} of backend {backend.name!r} takes {kind}, "
                f"not {parameters[name]!r}",
                hint=f"its default is {name}={default}",
            )


def _kind(value: Parameter) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a text"


def _require_version(record: BackendRecord, version: int) -> None:
    if version != record.version:
        raise StoreError(
            f"the store was built by version {record.version} of backend {record.name!r}, "
            f"this is version {version}",
            hint="index the music again into a new store (-d)",
        )
