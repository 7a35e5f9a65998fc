"""Images that a run is given after it was begun: which they are, and what is said of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..config import Config
from ..errors import UserError, command, option
from ..store import Listing, combine
from ..system import checksums
from .plan import record_of, to_make
from .record import Change, ImagesFacts, RunRecord, listing_name
from .stages import BY_NAME
from .workspace import Workspace

TIME = "%Y-%m-%d %H:%M:%S"


def read_begun(workspace: Workspace, before: RunRecord, every: Listing) -> tuple[Listing, bool]:
    """Return the listing that a run has, and whether all of its files are as they were written.

    What is damaged is found again in the dataset, where that still has what ``run.json`` says.

    Parameters
    ----------
    workspace : Workspace
    before : RunRecord
        What ``run.json`` says.
    every : Listing
        All images of the dataset as it is.

    Raises
    ------
    UserError
        A file is damaged, and the dataset is another.
    """
    folder = workspace.folder
    good = as_written(folder, before)
    bad = [place for place, name in enumerate(before.listings) if not good.get(name, False)]
    if not bad:
        return Listing.join([Listing.load(folder / name) for name in before.listings]), True
    found = _mended([_loaded(folder / name) for name in before.listings], before, every, bad)
    if found is None or found.digest() != before.images.digest:
        raise UserError(
            f"{folder / before.listings[bad[0]]} is damaged, and the dataset is no longer as it"
            f" was; pass another {option('run')}, or start over after"
            f" {command('clean', run=folder)}"
        )
    return found, False


def recover(
    workspace: Workspace, record: RunRecord, every: Listing
) -> tuple[RunRecord, Listing] | None:
    """Return what a run that was grown began with, where its ``run.json`` is lost; None of others.

    Its listing says which images it was given when, the record of its bank which ones that is of.

    Parameters
    ----------
    workspace : Workspace
    record : RunRecord
        Of a run that would begin now.
    every : Listing
        All images of the dataset.
    """
    paths = [workspace.folder / listing_name(0)]
    while (following := workspace.folder / listing_name(len(paths))).exists():
        paths.append(following)
    parts = [each for each in map(_loaded, paths) if each is not None]
    joined = _joined(parts) if 1 < len(parts) == len(paths) else None
    found = None if joined is None else _looked_up(joined, every)
    if found is None:
        return None
    ends = [*found.starts[1:], len(found.frame)]
    facts = [ImagesFacts(n=n, digest=found.first(n).digest()) for n in ends]
    workspace.hold(listing=found)
    fitted = _fitted(workspace, found, ends)
    history = tuple(
        Change(
            when=_written(path),
            added=now.n - before.n,
            fitted=min(fitted, now.n),
            before=before,
            limit=record.config["limit"],
        )
        for path, (before, now) in zip(paths[1:], pairwise(facts), strict=True)
    )
    return record.model_copy(update={"history": history, "images": facts[-1]}), found


def _fitted(workspace: Workspace, listing: Listing, ends: Sequence[int]) -> int:
    """Return of how many images a bank is, as its record says; of all where there is none."""
    bank = record_of(workspace, BY_NAME["factorize"])
    made_from = None if bank is None else bank.made_from.get("activations")
    records = [workspace.activations.record(shard) for shard in range(listing.n_shards)]
    for n in ends:
        known = [each.digest for each in records[: listing.first(n).n_shards] if each is not None]
        if combine(known) == made_from:
            return n
    return ends[-1]


def _written(path: Path) -> str:
    return time.strftime(TIME, time.gmtime(path.stat().st_mtime))


def as_written(folder: Path, record: RunRecord) -> dict[str, bool]:
    """Say of each file that a record vouches for whether it is as it was written."""
    return {
        name: (folder / name).is_file() and checksums.sha256(folder / name) == digest
        for name, digest in record.files.items()
    }


def _loaded(path: Path) -> Listing | None:
    try:
        return Listing.load(path)
    except UserError:
        return None


def _mended(
    parts: list[Listing | None], before: RunRecord, every: Listing, bad: Sequence[int]
) -> Listing | None:
    """Make a listing whole: its order is in its files, or is that of what no other has.

    A file may be readable and another than ``run.json`` knows, where a job was killed that noted
    new times of images in it.
    """
    whole = [each for each in parts if each is not None]
    if len(whole) == len(parts):
        found = _joined(whole)
        if found is not None and found.digest() == before.images.digest:
            return _looked_up(found, every)
    if len(bad) > 1:
        return None
    place = bad[0]
    others = [each for number, each in enumerate(parts) if number != place and each is not None]
    ends = [0, *(each.before.n for each in before.growth), before.images.n]
    taken = {path for each in others for path in each.frame["path"]}
    left = every.frame[~every.frame["path"].isin(taken)].head(ends[place + 1] - ends[place])
    per_shard = (others or [every])[0].images_per_shard
    part = Listing(left.reset_index(drop=True), per_shard)
    return _joined([*others[:place], part, *others[place:]])


def _joined(parts: Sequence[Listing]) -> Listing | None:
    try:
        return Listing.join(parts)
    except ValueError:
        return None


def _looked_up(found: Listing, every: Listing) -> Listing | None:
    """Take what the dataset says of the images of a listing; None where it lacks one."""
    rows = every.frame.set_index("path", drop=False)
    if not found.frame["path"].isin(rows.index).all():
        return None
    frame = rows.loc[found.frame["path"]].reset_index(drop=True)
    return dataclasses.replace(found, frame=frame)


def grown(begun: Listing, every: Listing, limit: int | None) -> Listing:
    """Put the images of a dataset that a run has not behind those it has, up to ``LIMIT``.

    Sizes and times of files are those of now; the rest of what the run has stays.
    """
    rows = every.frame.set_index("path").loc[begun.frame["path"]]
    facts = {name: rows[name].to_numpy() for name in ("size", "modified")}
    known = dataclasses.replace(begun, frame=begun.frame.assign(**facts))
    more = every.frame[~every.frame["path"].isin(begun.frame["path"])]
    more = more if limit is None else more.head(max(0, limit - len(known.frame)))
    if more.empty:
        return known
    added = Listing(more.reset_index(drop=True), begun.images_per_shard)
    return Listing.join([*known.generations(), added])


def find_change(
    workspace: Workspace, before: RunRecord, begun: Listing, now: Listing
) -> Change | None:
    """Return what changes of a run that has another listing now, or whose fit is to be anew.

    Where there are no concepts yet, they will be of all images.
    """
    n_before, n_now = len(begun.frame), len(now.frame)
    is_refit = workspace.config.refit == "yes"
    is_fitted = (
        before.stage("factorize").status == "done"
        or before.n_fitted < before.images.n  # a bank of fewer that was lost is made again as such
        or record_of(workspace, BY_NAME["factorize"]) is not None
    )
    fitted = before.n_fitted if is_fitted and not is_refit else n_now
    if n_now == n_before and (fitted == before.n_fitted or not is_refit):
        return None
    return Change(
        when=time.strftime(TIME, time.gmtime()),
        added=n_now - n_before,
        fitted=fitted,
        before=before.images,
        limit=before.config["limit"],
    )


def tell(workspace: Workspace, change: Change | None) -> None:
    """Say what a change comes to, and what of the images that were there is made again."""
    if change is None:
        if workspace.config.refit == "yes" and "factorize" not in to_make(workspace):
            n = workspace.record.n_fitted
            workspace.tell(f"refit      the concepts are those of all {n:,} images already")
        return
    n, n_now = change.before.n, change.before.n + change.added
    if change.fitted == n_now:
        what = f"the concepts are fitted to all {n_now:,}"
    else:
        what = (
            f"encoded with the bank of {change.fitted:,} images, {option('refit', 'yes')} fits anew"
        )
    if change.added:
        workspace.tell(f"grown      {_images(change.added)} added since: {what}")
    else:
        workspace.tell(f"refit      {what}")
    known = range(workspace.listing.first(n).n_shards)
    again = [shard for shard in to_make(workspace).get("extract", []) if shard in known]
    if lost := sum(len(workspace.listing.ids(shard)) for shard in again):
        keep = option("keep", workspace.config.keep)
        workspace.tell(
            f"extract    the activations of {_images(lost)} that the run had are not there"
            f" ({keep}): they are made again"
        )


def tell_left(workspace: Workspace, before: RunRecord, begun: Listing, every: Listing) -> None:
    """Say which images of a dataset a run does not take, and what would take them."""
    limit, n = workspace.config.limit, len(every.frame)
    if n <= len(begun.frame) or n == before.dataset.n_images:
        return
    if limit is not None:
        workspace.tell(
            f"limit      the run keeps to {_images(len(begun.frame))} of the {n:,} there are now:"
            f" a larger {option('limit')} adds more"
        )
    elif n > before.images.n:
        dataset = option("dataset", workspace.config.dataset)
        workspace.tell(
            f"grown      {_images(n - len(begun.frame))} of the dataset are not of this run:"
            f" {dataset} adds them"
        )


def describe(record: RunRecord) -> list[str]:
    """Say how a run came to its images and concepts, a line for each change of it."""
    lines = []
    for change in record.history:
        n = change.before.n + change.added
        of = f"of all {n:,}" if change.fitted == n else f"of the first {change.fitted:,} of {n:,}"
        what = f"{_images(change.added)} added" if change.added else "fitted anew"
        lines.append(f"{change.when} UTC: {what}, concepts {of}")
    return lines


def is_raised(before: Config, now: Config) -> bool:
    """Say whether ``LIMIT`` allows for more images than it did."""
    return before.limit is not None and now.limit is not None and now.limit > before.limit


def _images(n: int) -> str:
    return f"{n:,} image" if n == 1 else f"{n:,} images"
