"""What a program calls: index files into a store, query it, keep it in step with the files.

Examples
--------
>>> from afp.library import Searcher, index  # doctest: +SKIP
>>> index("music.afp", ["/home/me/Music"])  # doctest: +SKIP
>>> with Searcher.open("music.afp") as searcher:  # doctest: +SKIP
...     print(searcher.query("clip.wav").matches)
"""

from afp.library.decoding import DecodingProcess
from afp.library.indexing import index
from afp.library.interruption import Interruption
from afp.library.querying import DEFAULT_MAX_P, QueryResult, Searcher
from afp.library.report import FileOutcome, IndexReport, Planned, Status
from afp.library.upkeep import Vanished, prune

__all__ = [
    "DEFAULT_MAX_P",
    "DecodingProcess",
    "FileOutcome",
    "IndexReport",
    "Interruption",
    "Planned",
    "QueryResult",
    "Searcher",
    "Status",
    "Vanished",
    "index",
    "prune",
]
