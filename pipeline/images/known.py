"""What archives elsewhere hold, kept as long as a process lives: a run opens its images anew often.

To look through one takes a question for each of its members.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from .archive_files import Index
from .elsewhere import Facts
from .ranged import RemoteFile

MOST_MEMBERS = 1_000_000
"""Members that are kept, of the archives that were asked for last."""

_indexes: OrderedDict[tuple[str, Facts], Index] = OrderedDict()
_lock = threading.Lock()


def known(file: RemoteFile, make: Callable[[], Index]) -> Index:
    """Return what an archive holds; `make` finds it out where that is not known.

    An archive is the same as long as its place, size, last change and tag are.
    """
    key = file.url, file.facts
    with _lock:
        if key in _indexes:
            _indexes.move_to_end(key)
            return _indexes[key]
    index = make()
    with _lock:
        _indexes[key] = index
        n_members = sum(len(each.members) for each in _indexes.values())
        while n_members > MOST_MEMBERS and len(_indexes) > 1:
            n_members -= len(_indexes.popitem(last=False)[1].members)
    return index
