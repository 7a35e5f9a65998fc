"""Going on with a run: is it still the same, which images are new, where do things lie now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import Config
from ..config_file import dump_toml
from ..images import DatasetSource
from ..store import Listing
from ..system import checksums, files
from .beginning import remembered
from .growth import as_written, find_change, grown, read_begun, tell, tell_left
from .identity import check_contents, check_same, check_same_images
from .record import CONFIG, DatasetFacts, ImagesFacts, RunRecord, listing_name
from .retry import try_again
from .workspace import Workspace


def go_on(
    workspace: Workspace,
    before: RunRecord,
    record: RunRecord,
    every: Listing,
    source: DatasetSource,
    *,
    as_made: bool,
) -> None:
    """Go on with a run: check its images, add new ones, note where things lie and how to work now.

    `every` are all images of the dataset as it is; under `as_made` the run stays with those it has.
    """
    begun, is_whole = read_begun(workspace, before, every)
    workspace.hold(listing=begun)
    check_same(workspace, before, record, {label for each in begun.labels for label in each})
    touched, listing = not is_whole, begun
    if not is_whole or not (as_made and _is_extracted(workspace)):
        touched |= check_same_images(workspace, begun, every, source)
    if not is_whole:
        check_contents(workspace, begun, source)
    if touched or not as_made:
        limit = len(begun.frame) if as_made else workspace.config.limit
        listing = grown(begun, every, limit)
    change = find_change(workspace, before, begun, listing)
    facts = _facts(workspace, before, record, as_made=as_made)
    if change is not None:
        facts["history"] = (*before.history, change)
    if change is not None and change.added:
        facts |= {
            "images": ImagesFacts(n=len(listing.frame), digest=listing.digest()),
            "dataset": _with_rejected(before, record, listing),
            "class_of_label": record.class_of_label,
            "class_names": record.class_names,
        }
    else:
        facts["config"]["limit"] = before.config["limit"]
        tell_left(workspace, before, begun, every)
    is_as_was = as_written(workspace.folder, before)
    if touched or before.model_copy(update=facts) != before or not all(is_as_was.values()):
        good = (
            {} if touched else {name: before.files[name] for name in is_as_was if is_as_was[name]}
        )
        # Of the record as it is by then: a part beside this one adds to it meanwhile.
        options = workspace.config.model_copy(update={"limit": facts["config"]["limit"]})
        workspace.note(**facts, files=write_start(workspace.folder, options, listing, good))
        workspace.reload("listing")
    tell(workspace, change)
    try_again(workspace, source)


def _facts(
    workspace: Workspace, before: RunRecord, record: RunRecord, *, as_made: bool
) -> dict[str, Any]:
    """Return what a run's record says anew whenever it goes on."""
    # What was refused when the run was begun stays in its table.
    kept: dict[str, Any] = {"rejected": before.dataset.rejected}
    if as_made:
        kept |= {name: getattr(before.dataset, name) for name in ("n_images", "fingerprint")}
    return {
        "dataset": record.dataset.model_copy(update=kept),
        "config": {**before.config, **remembered(workspace.config).model_dump(mode="json")},
        "siblings": before.siblings | record.siblings,
    }


def _with_rejected(before: RunRecord, record: RunRecord, listing: Listing) -> DatasetFacts:
    """Add what was refused of a grown dataset to what was when the run was begun."""
    paths = set(listing.frame["path"])
    every = dict.fromkeys((*before.dataset.rejected, *record.dataset.rejected))
    rejected = tuple(each for each in every if each.path not in paths)
    return record.dataset.model_copy(update={"rejected": rejected})


def _is_extracted(workspace: Workspace) -> bool:
    """Say whether all of a run's images went through the network."""
    stores = (workspace.activations, workspace.heatmaps)
    n_shards = workspace.listing.n_shards
    return all(any(each.is_there(n) for each in stores) for n in range(n_shards))


def write_start(
    folder: Path, config: Config, listing: Listing, good: dict[str, str]
) -> dict[str, str]:
    """Write the configuration and the files of the listing, but for those that are good already.

    Returns the digests of all.
    """
    files.write_text(folder / CONFIG, dump_toml(remembered(config)))
    sums = {CONFIG: checksums.sha256(folder / CONFIG)}
    for place, generation in enumerate(listing.generations()):
        name = listing_name(place)
        if name not in good:
            generation.save(folder / name)
        sums[name] = good.get(name) or checksums.sha256(folder / name)
    return sums
