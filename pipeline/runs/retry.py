"""Images that could not be opened are tried again whenever a run goes on.

Whether a file is there and may be read is the machine's state, which changes; what it holds is the
image's own. A shard's record keeps the paths it could not open.
"""

from __future__ import annotations

import json

from ..images import UNREADABLE, DatasetSource, DecodeError, ImageRecord, read_contents
from ..store.records import Record, begin, read_record
from ..system import files
from .stages import MAKER
from .workspace import Workspace


def unreadable(record: Record | None) -> frozenset[str]:
    """Return the images that could not be opened when a shard was made."""
    return frozenset(json.loads((record and record.made_from.get("unreadable")) or "[]"))


def try_again(workspace: Workspace, source: DatasetSource) -> None:
    """Strike the shards of images that could not be opened and now can be: they are made again.

    A part of a run (``SHARD``) leaves that to the call that makes the whole.
    """
    if workspace.config.shard is not None:
        return
    _draw_again(workspace)
    store = workspace.activations
    found: dict[int, list[ImageRecord]] = {}
    for shard in range(store.n_shards):
        if paths := unreadable(store.record(shard)):
            listed = workspace.listing.shard(shard)
            now = [each for each in listed if each.path in paths and _can_be_read(source, each)]
            found |= {shard: now} if now else {}
    if not found:
        return
    # First what was made of all shards: where those are not kept, nothing else would ask for them.
    is_fitted = min(found) < workspace.n_fitted_shards
    files.remove(MAKER["bank" if is_fitted else "tables"].record_path(workspace.folder))
    for shard in found:
        if shard >= workspace.n_fitted_shards:
            files.remove(workspace.heatmaps.record_path(shard))
            files.remove(workspace.heatmaps.path(shard))
        files.remove(store.path(shard))
        files.remove(store.record_path(shard))
    opened = [each.path for images in found.values() for each in images]
    workspace.tell(
        f"readable   {len(opened)} images that could not be opened before, {opened[0]!r} the first:"
        f" {len(found)} shards are made again"
    )


def _can_be_read(source: DatasetSource, image: ImageRecord) -> bool:
    try:
        read_contents(source, image)
    except DecodeError as error:
        return not str(error).startswith(UNREADABLE)
    return True


def _draw_again(workspace: Workspace) -> None:
    """Strike an atlas that shows images as gone: its pictures may be there now."""
    stage = MAKER["atlas"]
    path = stage.record_path(workspace.folder)
    record = read_record(path, stage.makes)
    if record is not None and record.counts.get("gone"):
        begin(stage.begun_path(workspace.folder), record.files)
        files.remove(path)
