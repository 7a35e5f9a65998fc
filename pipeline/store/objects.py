"""What is object in a run's images, as arrays by part, in one HDF5 file beside the bank.

Its parts are those of `pipeline.localize`: ``coarse``, ``finer`` and ``winners``; files before 1.2
have ``fine`` in place of the second. What the arrays mean is theirs to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from ..errors import command
from ..system import files
from .chunks import write_texts
from .contents import Sizes
from .encoding import Encoding, open_hdf5

OBJECTS = Encoding("concordance.objects", "1.2", oldest="1.1")

Parts = Mapping[str, Mapping[str, Any]]
"""Name of a part to its arrays and numbers by name; texts are tuples."""

_TOP = "coarse"  # its arrays lie at the top of the file, the others' in groups


def write_objects(path: Path, layer: str, parts: Parts) -> None:
    """Write the parts to their file."""
    with files.write_hdf5(path) as file:
        file.attrs.update(OBJECTS.stamp() | {"layer": layer})
        for part, values in parts.items():
            prefix = "" if part == _TOP else f"{part}/"
            for name, value in values.items():
                if isinstance(value, tuple):
                    write_texts(file, prefix + name, value)
                else:
                    # By create_dataset: groups made by assignment keep the time.
                    file.create_dataset(prefix + name, data=value)


def read_objects(path: Path, sizes: Sizes | None = None) -> dict[str, dict[str, Any]]:
    """Read what `write_objects` wrote; single numbers come as floats.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        What is known of ``k``, and of ``fine`` and ``winners``, the channels that these parts take.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    mend = f"{command('discover', run=path.parents[1])} makes it"
    with open_hdf5(path, OBJECTS, mend, sizes or {}) as file:
        groups = {name: node for name, node in file.items() if isinstance(node, h5py.Group)}
        return {_TOP: _values(file)} | {name: _values(node) for name, node in groups.items()}


def _values(group: h5py.Group) -> dict[str, Any]:
    return {name: _value(node) for name, node in group.items() if isinstance(node, h5py.Dataset)}


def _value(node: h5py.Dataset) -> Any:
    value = node[()]
    if h5py.check_string_dtype(node.dtype) is not None:
        return tuple(map(bytes.decode, value))
    return value if value.ndim else float(value)
