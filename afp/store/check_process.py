"""Checking a store in a process of its own, which reading a damaged catalogue may kill.

LMDB trusts its pages: a damaged one may lead it behind the end of the file, where the system ends
the process.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from afp.errors import StoreError
from afp.store import records
from afp.store.check import check, check_catalogue

_CODE = """
import sys
folder, only, *sys.path = sys.argv[1:]
from afp.store.check_process import main
main(folder, only == "catalogue")
"""
_FEW = 10  # faults of pages, of which one breeds others
_CRASHES = {
    getattr(signal, name, None) for name in ("SIGBUS", "SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL")
}


def check_apart(folder: Path, *, catalogue_only: bool = False) -> list[str]:
    """Return what is wrong with a store, a line each, whatever its state is.

    Parameters
    ----------
    folder : Path
        The store's.
    catalogue_only : bool
        Leave the segments out.

    Raises
    ------
    StoreError
        When it cannot be told, for other reasons than damage.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-c", _CODE),
            *(os.fspath(folder), "catalogue" if catalogue_only else "all", *sys.path),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        answer = json.loads(done.stdout)
        if isinstance(answer, list):
            return answer
        raise StoreError(answer["error"], hint=answer["hint"])
    if -done.returncode in _CRASHES or done.returncode > 255:  # exceptions of Windows lie there
        return [f"the catalogue is damaged, so that reading it ends the process: {records.ANEW}"]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise StoreError(f"{folder}: the check was ended by {name}", hint="try again")
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason is given"]
    return [f"the catalogue is damaged, it makes no sense ({lines[-1]}): {records.ANEW}"]


def main(folder: str, catalogue_only: bool) -> None:
    """Check a store; write what is wrong, or why that cannot be told, to the output as JSON."""
    answer: list[str] | dict[str, str]
    try:
        answer = _faults(Path(folder), catalogue_only)
    except StoreError as error:
        answer = {"error": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps(answer))


def _faults(folder: Path, catalogue_only: bool) -> list[str]:
    from afp.store.store import Store

    faults: list[str] = []
    try:
        with Store.open(folder) as store:
            faults = [f"the catalogue is damaged: {fault}" for fault in store.page_damage()]
            if faults:
                return [*faults[:_FEW], f"the catalogue is damaged beyond repair: {records.ANEW}"]
            if catalogue_only:
                return store.look(check_catalogue)
            try:
                with store.snapshot() as snapshot:
                    return check(snapshot)
            except records.DamagedStoreError as error:
                faults = [*store.look(check_catalogue), f"{error}: {error.hint}"]
    except records.DamagedStoreError as error:
        faults.append(f"{error}: {error.hint}")
    return list(dict.fromkeys(faults))
