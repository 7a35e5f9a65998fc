"""A run that begins with the activations of another: other concepts without another forward pass.

Shards are shared by hard links, so that neither run takes room for them twice and either may be
removed; where links do not reach they are copied. Nothing of the other run is touched. Names that
people gave its concepts come along: concepts that are the same here have them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CARRIED_OUT, Config, make_config
from ..errors import UserError, command, option
from ..store import ShardStore
from ..system import checksums, files
from ..system.progress import bar, say
from .beginning import remembered
from .checks import check_folder
from .ownership import NAMES, is_run
from .pins import read_text
from .record import RunRecord, TreeOf
from .resume import write_start
from .stages import STAGES
from .workspace import Workspace

FREE = frozenset(
    ("k", "at", "seed", "objective", "active", "transform", "balance", "plugins", *CARRIED_OUT)
)
"""Options that may be other than those of the run whose activations are taken."""


def options_from(source: Path, given: Mapping[str, Any]) -> Config:
    """Return the options of a run that takes the activations of another.

    Parameters
    ----------
    source : Path
        Folder of the other run.
    given : mapping
        Options by name: those that are not given are as there.

    Raises
    ------
    UserError
        `source` is no run, or an option that decides its activations is given another value.
    """
    if not is_run(source):
        raise UserError(f"{option('from_run', source)} is not a run")
    made = remembered(Workspace.open(source).config)
    if "at" in given:
        given = _at(given)
    asked = make_config({**made.model_dump(), "at": None, **given})
    for name in given:
        was = getattr(made, name)
        if name not in FREE and getattr(asked, name) != was:
            raise UserError(
                f"{option('from_run', source)} takes activations as they are there, made with"
                f" {option(name, 'its default' if was is None else was)}: leave out"
                f" {option(name)}, or {option('from_run')}"
            )
    return asked


def _at(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the number of concepts that is taken from a tree; refuse what fits them.

    They are not fitted: what would decide a fit says nothing.
    """
    at = make_config({"at": given["at"]}).at
    assert at is not None
    for name in ("k", "objective", "active", "transform", "balance", "seed"):
        if name in given:
            raise UserError(
                f"{option('at', at)} takes the concepts of a tree as they are: leave out"
                f" {option(name)}"
            )
    return {**given, "at": at, "k": (at,)}


def tree_of_run(source: Workspace, folder: Path, at: int) -> TreeOf:
    """Say where the concepts of a run are taken from.

    Raises
    ------
    UserError
        The other run has no tree, or none of so many concepts.
    """
    bank, again = source.bank, command("discover", run=source.folder, refit="yes")
    if bank.tree is None:
        raise UserError(f"{source.folder} has no tree, as of an earlier version; {again} makes it")
    if at > bank.k:
        raise UserError(
            f"{option('at', at)} is more than the {bank.k} concepts of {source.folder}: its tree"
            f" has 1 to {bank.k}"
        )
    digest = checksums.sha256(source.whole("bank", "bank.h5"))
    return TreeOf(run=os.path.relpath(source.folder.resolve(), folder.resolve()), bank=digest)


def begin_from(source: Path, folder: Path, config: Config) -> None:
    """Make the folder of a run with the activations of another, where it is not there yet.

    Parameters
    ----------
    source : Path
        Folder of the other run.
    folder : Path
        Of the run to be made; where it was begun with these activations already nothing is done.
    config : Config
        Its options, of `options_from`.

    Raises
    ------
    UserError
        The other run has not all of its activations, the folder is that run, or something else, as
        a run of other images is, or the disk is full.
    """
    check_folder(folder)
    if folder.resolve() == source.resolve():
        raise UserError(
            f"{option('run', folder)} is {option('from_run')} itself: name a new folder"
        )
    made, other = Workspace(folder, config), Workspace.open(source)
    tree_of = None if config.at is None else tree_of_run(other, folder, config.at)
    if (before := made.saved()) is not None:
        _check_same_activations(before, other.record, folder, source)
        check_same_tree(before.tree_of, tree_of, folder, source)
        return
    store = other.activations
    if missing := store.missing():
        made_again = command("discover", run=source, keep="all")
        raise UserError(
            f"{source} has not all of its activations, {store.n_shards - len(missing)} of"
            f" {store.n_shards} shards, as {option('keep', other.config.keep)} says;"
            f" {made_again} makes them"
        )
    files.check_writable(folder)
    with made.writing(), made.alone("prepare"):
        own = ShardStore(folder / store.folder.name, store.encoding, store.n_shards)
        _share(store, own)
        record = _record(other.record, config).model_copy(update={"tree_of": tree_of})
        sums = write_start(folder, config, other.listing, {})
        if (source / NAMES).is_file() and not (folder / NAMES).exists():
            files.write_text(folder / NAMES, read_text(source / NAMES))
        record.model_copy(update={"files": sums}).save(made.record_path)
    made.reload("record", "listing")
    made.log(f"activations of {source.resolve()}")


def check_same_tree(own: TreeOf | None, now: TreeOf | None, folder: Path, source: Path) -> None:
    """Refuse a run whose concepts are of another tree than that of a run as it is now."""
    if own == now:
        return
    cleaned = command("clean", run=folder)
    of_before = own is not None and now is not None and own.run == now.run
    said = (
        f"of those concepts that {source} had before it was fitted anew; {cleaned} removes it"
        if of_before
        else f"not of the tree of {source}; name another {option('run')}"
    )
    raise UserError(f"{option('run', folder)} is a run already, and {said}")


def _check_same_activations(own: RunRecord, theirs: RunRecord, folder: Path, source: Path) -> None:
    """Refuse a run that is there already and was made of other images, or by another network.

    It may have the same options, and if it is finished nobody looks at its images again.
    """
    if (own.images, own.layer, own.weights.sha256) != (
        theirs.images,
        theirs.layer,
        theirs.weights.sha256,
    ):
        raise UserError(
            f"{option('run', folder)} is a run already, and not of the activations of {source};"
            f" name another {option('run')}, or go on with it by {command('discover', run=folder)}"
        )


def _record(before: RunRecord, config: Config) -> RunRecord:
    """Return what ``run.json`` says at first: as of the other run, with nothing but activations.

    Concepts are fitted to all images there are, those that it was given later too.
    """
    first = STAGES[0].name
    limit = {"limit": before.config["limit"]}
    return before.model_copy(
        update={
            "config": remembered(config).model_dump(mode="json") | limit,
            "stages": {first: before.stage(first)} if first in before.stages else {},
            "siblings": {},
            "history": tuple(
                each.model_copy(update={"fitted": before.images.n}) for each in before.history
            ),
        }
    )


def _share(store: ShardStore, own: ShardStore) -> None:
    """Link the shards of one store into another, or copy them; records last, each after its own."""
    is_linked = True
    with bar("share", store.n_shards, "shards") as shown:
        for index in range(store.n_shards):
            for path, target in (
                (store.path(index), own.path(index)),
                (store.record_path(index), own.record_path(index)),
            ):
                if is_linked and not files.link(path, target):
                    is_linked = False
                    _check_room(store, own.folder)
                if not is_linked:
                    files.copy(path, target)
            shown.update()


def _check_room(store: ShardStore, folder: Path) -> None:
    """Say what is copied; refuse what does not fit."""
    needed, free = files.size(store.folder), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{needed / 1e9:.2f} GB of activations would be copied to {folder}, for links do not"
            f" reach there from {store.folder}, and {free / 1e9:.2f} GB are free; name a"
            f" {option('run')} on the disk of {option('from_run')}"
        )
    say(f"share      {needed / 1e9:.2f} GB are copied, for links do not reach from {store.folder}")
