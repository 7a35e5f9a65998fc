"""What a run is bound to: options, weights, images, formats, machine; and how two of them differ.

A run that is resumed must go on as it was begun, or its shards would not belong together. Images
are compared by path and label and, where size or time of a file have changed, by the contents that
were read; weights by contents; where either lies is free to change.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..config import CARRIED_OUT
from ..config_file import load_toml
from ..errors import UserError, command, option
from ..images import (
    DatasetSource,
    DecodeError,
    ImageRecord,
    content_digest,
    read_contents,
    reading_ahead,
)
from ..store import FORMATS, Listing, combine
from ..system.progress import bar
from .growth import is_raised
from .record import RunRecord
from .retry import unreadable
from .workspace import Workspace

PLACES = ("dataset", "weights", "classes")
"""Options that say where something lies; what lies there is compared."""


def check_same(workspace: Workspace, before: RunRecord, now: RunRecord, labels: set[str]) -> None:
    """Refuse to go on with a run that was begun as something else.

    ``LIMIT`` may be raised, and labels that no image of the run has may be of any class.

    Parameters
    ----------
    workspace : Workspace
        The run, with the options given now.
    before, now : RunRecord
        What ``run.json`` says, and what it would say of a run begun now.
    labels : set of str
        Of the run's images.

    Raises
    ------
    UserError
        They differ; the text shows in what, and what to type.
    """
    unread = [
        f"{name} {before.formats[name]} (this version reads {encoding.range})"
        for name, encoding in FORMATS.items()
        if not encoding.reads(before.formats.get(name, encoding.version))
    ]
    if unread:
        raise _refusal(workspace, f"has files of other formats: {', '.join(unread)}")
    found = _identity(before), _identity(_as_begun(before, now, labels))
    different = [
        f"{name}={_text(found[0].get(name))}, now it is {_text(value)}"
        for name, value in found[1].items()
        if found[0].get(name) != value
    ]
    if different:
        raise _refusal(workspace, f"was made with {', and with '.join(different)}")
    if before.machine != now.machine and workspace.config.machine == "same":
        raise _refusal(
            workspace,
            f"was begun on a machine of {before.machine}, this one has {now.machine}, where the"
            " last bits differ",
            f"pass {option('machine', 'any')} to go on all the same",
        )


def check_same_images(
    workspace: Workspace, before: Listing, now: Listing, source: DatasetSource
) -> bool:
    """Refuse to go on if the images are others than those the run was begun with.

    Parameters
    ----------
    workspace : Workspace
    before, now : Listing
        Of the run, and of the dataset as it is, which may have more images.
    source : DatasetSource
        The dataset.

    Returns
    -------
    bool
        Whether sizes or times of files have changed, though not what was read of them.

    Raises
    ------
    UserError
        Images were removed, given another label or replaced; it names the first ones.
    """
    old, new = (frame.set_index("path") for frame in (before.frame, now.frame))
    common = old.index.intersection(new.index)
    a, b = old.loc[common], new.loc[common]
    relabelled = common[(a["label"].fillna("") != b["label"].fillna("")).to_numpy()]
    faults = [
        _some("removed", old.index.difference(new.index)),
        _some("given another label", relabelled),
    ]
    if any(faults):
        found = "; ".join(fault for fault in faults if fault)
        raise _refusal(workspace, f"was begun with other images: since then {found}")
    touched = common[((a["size"] != b["size"]) | (a["modified"] != b["modified"])).to_numpy()]
    facts = {name: new.loc[old.index, name].to_numpy() for name in ("size", "modified")}
    listing = dataclasses.replace(before, frame=before.frame.assign(**facts))
    check_contents(workspace, listing, source, set(touched))
    return len(touched) > 0


def check_lost(
    workspace: Workspace, now: RunRecord, listing: Listing, source: DatasetSource
) -> None:
    """Refuse to adopt what is left of a run whose ``run.json`` was lost, if it was another.

    Its ``config.toml`` says how it was made, and its shards which images they were made from.

    Raises
    ------
    UserError
        They differ from what is asked for now; the text shows in what.
    """
    path = workspace.folder / "config.toml"
    if not path.exists():
        return
    made, asked = (each.model_dump(mode="json") for each in (load_toml(path), now.options()))
    different = [
        f"{option(name)}={_text(made[name])}, now it is {_text(asked[name])}"
        for name in asked
        if name not in {*CARRIED_OUT, *PLACES} and made[name] != asked[name]
    ]
    if different:
        raise _refusal(workspace, f"was made with {', and with '.join(different)}")
    workspace.hold(listing=listing)
    check_contents(workspace, listing, source)


def images_digest(contents: Sequence[str]) -> str:
    """Return the digest of a shard's images, of the digests of their contents in order."""
    return combine(contents)


def check_contents(
    workspace: Workspace, now: Listing, source: DatasetSource, paths: set[str] | None = None
) -> None:
    """Read images of shards again, and refuse others than those that were extracted.

    Parameters
    ----------
    workspace : Workspace
    now : Listing
        Of the run, as its images are now.
    source : DatasetSource
    paths : set of str, optional
        Those to look at, with the rest of their shards; all by default. What is not extracted yet
        is free.

    Raises
    ------
    UserError
        Images were replaced, or cannot be read now; it names the first ones.
    """
    store = workspace.activations
    paths = set(now.frame["path"]) if paths is None else paths
    shards = [
        (shard, now.shard(shard), record.made_from.get("images"))
        for shard in _shards_of(now, paths)
        if (record := store.record(shard)) is not None
    ]
    if not shards:
        return
    coming = [image for _, images, _ in shards for image in images]
    with bar("compare", len(coming), "images") as shown, reading_ahead(source, coming):
        for shard, images, digest in shards:
            # What could not be opened was not read: it is no part of the shard.
            closed = unreadable(store.record(shard))
            found = [None if each.path in closed else _content(source, each) for each in images]
            shown.update(len(images))
            if digest is not None and images_digest([each or "" for each in found]) != digest:
                away = [
                    image.path
                    for image, each in zip(images, found, strict=True)
                    if each is None and image.path not in closed
                ]
                if away:
                    raise UserError(
                        f"{workspace.folder} was begun with images of which"
                        f" {_some('not to be read now', away)}; see to them, or pass another"
                        f" {option('run')}"
                    )
                which = [image.path for image in images if image.path in paths]
                raise _refusal(
                    workspace, f"was begun with other images: since then {_some('replaced', which)}"
                )


def _shards_of(listing: Listing, paths: set[str]) -> list[int]:
    rows = [row for row, path in enumerate(listing.frame.path) if path in paths]
    return [int(each) for each in np.unique(listing.shards_of(rows))] if rows else []


def _content(source: DatasetSource, image: ImageRecord) -> str | None:
    """Return the digest of an image's contents; None where they cannot be read."""
    try:
        return content_digest(read_contents(source, image))
    except DecodeError:
        return None


def _identity(record: RunRecord) -> dict[str, Any]:
    """Return what must be equal for a run to be resumed, by the name a user knows it by."""
    free = {*CARRIED_OUT, *PLACES}
    chosen = record.options().model_dump(mode="json")
    options = {option(name): value for name, value in chosen.items() if name not in free}
    return options | {
        "weights of SHA-256": record.weights.sha256,
        option("classes"): [record.class_of_label, record.class_names],
        "probabilities": record.link,
        "preprocessing": record.preprocessing.model_dump(mode="json"),
    }


def _as_begun(before: RunRecord, now: RunRecord, labels: set[str]) -> RunRecord:
    """Leave out what may have come to a run since: classes of new labels, a larger ``LIMIT``."""
    facts: dict[str, Any] = {}
    if is_raised(before.options(), now.options()):
        facts["config"] = now.config | {"limit": before.config["limit"]}
    if now.class_of_label != before.class_of_label:
        known = before.class_of_label.keys() | labels
        kept = {label: each for label, each in now.class_of_label.items() if label in known}
        others = set(now.class_of_label.values()) - set(kept.values())
        names = {key: name for key, name in now.class_names.items() if int(key) not in others}
        facts |= {"class_of_label": kept, "class_names": names}
    if before.options().head == "probe":  # fitted so, whatever labels have come since
        facts |= {"link": before.link}
    return now.model_copy(update=facts)


def _refusal(workspace: Workspace, reason: str, instead: str = "") -> UserError:
    folder = workspace.folder
    return UserError(
        f"{folder} {reason}; {instead + ', ' if instead else ''}pass another {option('run')}, or"
        f" start over after {command('clean', run=folder)}"
    )


def _some(what: str, names: Sequence[str] | pd.Index, n: int = 3) -> str:
    if len(names) == 0:
        return ""
    more = ", …" if len(names) > n else ""
    verb = "was" if len(names) == 1 else "were"
    return f"{len(names)} {verb} {what} ({', '.join(map(repr, names[:n]))}{more})"


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}…"
