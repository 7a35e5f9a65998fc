"""The archive of a program of torch.export: its JSON and its tensors, read as data."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from .checkpoints import check_archive, check_stored

Json = dict[str, Any]

DTYPES = dict(
    enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"), 1)
) | {12: "bool", 13: "bfloat16"}
"""Numbers of torch's schema for types of tensors."""


class Archive:
    """A file of torch.export.save, which is open as long as this lives.

    Raises
    ------
    UserError
        It is missing or no archive, or holds compiled code.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        check_archive(path, "program")
        self.path = path
        self._archive = zipfile.ZipFile(path)
        # All entries lie in one folder, which is called as the file was when it was written.
        self._entries = {name.partition("/")[2]: name for name in self._archive.namelist()}
        if any(name.startswith("data/aotinductor/") for name in self._entries):
            raise self.refusal("compiled code")

    def json(self, name: str) -> Json:
        """Return what an entry describes."""
        if name not in self._entries:
            raise UserError(
                f"{self.path} holds no program ({name} is missing): it is written by"
                " torch.export.save(torch.export.export(model, (images,)), file)"
            )
        found: Json = json.loads(self._archive.read(self._entries[name]))
        return found

    def refusal(self, what: str) -> UserError:
        """Return what is said of what would have to be executed."""
        return UserError(
            f"program {self.path} holds {what}, which would have to be executed to be read, and"
            " was not opened: export the network with plain tensors and operations of torch alone"
        )

    def tensors(self, kind: str) -> dict[str, torch.Tensor]:
        """Read the weights or the constants, by their names."""
        found: dict[str, torch.Tensor] = {}
        stored: dict[str, torch.Tensor] = {}
        for name, each in self.json(f"data/{kind}/model_{kind}_config.json")["config"].items():
            if each["use_pickle"]:
                raise self.refusal(f"a pickle ({name!r})")
            meta, entry = each["tensor_meta"], each["path_name"]
            dtype = dtype_of(meta["dtype"])
            if entry not in stored:
                content = bytearray(self._archive.read(self._entries[f"data/{kind}/{entry}"]))
                stored[entry] = torch.frombuffer(content, dtype=dtype) if content else _empty(dtype)
            sizes, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
            found[name] = stored[entry].as_strided(sizes, strides, meta["storage_offset"]["as_int"])
        check_stored(found, self.path, "program")
        return {
            name: each.float() if each.is_floating_point() else each for name, each in found.items()
        }


def dtype_of(number: int) -> torch.dtype:
    """Return the type of tensors that has a number in torch's schema."""
    if number not in DTYPES:
        raise ValueError(f"tensors of type {number} are not read")
    dtype: torch.dtype = getattr(torch, DTYPES[number])
    return dtype


def _empty(dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(0, dtype=dtype)
