"""Checking that a run can be made of what was loaded for it, and making its folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..images import UNREADABLE, Dataset, PixelRule
from ..models import Cut, cut, why_auto
from ..models.cut import Forward
from ..store import Listing, make_listing
from ..system import files
from ..system.progress import say
from .beginning import new_record
from .checks import (
    check_folder,
    check_k,
    check_labels,
    check_non_negative,
    check_objective,
    check_refit,
)
from .estimate import Estimate, bound_decoding, bytes_per_image, check_fits, estimate, probe
from .growth import recover
from .identity import check_lost
from .inputs import Inputs, load_inputs, name_of, resolve, tell
from .levels import pixel_rule, told
from .record import (
    ForwardPass,
    RunRecord,
)
from .resume import go_on, write_start
from .workspace import Workspace


def prepare(config: Config, run: Path | None, *, as_made: bool = False) -> Workspace:
    """Check what the user gave, then make the run's folder or find it again.

    Parameters
    ----------
    config : Config
        As given.
    run : Path or None
        The run's folder; named after dataset, model, layer and options under ``runs/`` if None.
    as_made : bool
        Whether to finish a run as it was made: once its images are extracted it needs them no
        more, and those that are gone or were replaced do not stop it.

    Raises
    ------
    UserError
        Dataset, network, layer, classes or output cannot be used, or `run` was made otherwise.
    """
    intended = intend(config, run, load_inputs(config, run))
    is_more = intended.is_more and (config.refit == "yes" or not as_made)
    if is_more or not intended.workspace.is_finished():
        check_fits(intended.needed, [intended.workspace.folder], config)
    files.check_writable(intended.workspace.folder)
    tell(intended.inputs, config)
    return begin(intended, as_made=as_made)


@dataclass(frozen=True)
class Intended:
    """A run that was found possible; its folder is untouched.

    Attributes
    ----------
    workspace : Workspace
        Its folder, and its configuration as resolved.
    inputs : Inputs
    dataset : Dataset
        Of the inputs, but for files that are no images of a run begun earlier.
    layer : Cut
    bytes_per_image : int
        Of activations, uncompressed.
    needed : Estimate
        What it will take.
    rule : PixelRule
        How its pixels are read.
    why : str
        Why its layer was taken, where none was asked for.
    is_more : bool
        Whether it is there already, and has fewer images, or is to be fitted anew.
    """

    workspace: Workspace
    inputs: Inputs
    dataset: Dataset
    layer: Cut
    bytes_per_image: int
    needed: Estimate
    rule: PixelRule
    why: str
    is_more: bool = False


def intend(config: Config, run: Path | None, inputs: Inputs) -> Intended:
    """Check that a run of these options can be made of what was loaded for it.

    Raises
    ------
    UserError
        The layer or the number of concepts is not possible, or `run` is something else.
    """
    why = why_auto(inputs.network) if config.layer == "auto" else ""
    config = resolve(config, inputs)
    layer = cut(inputs.network, config.layer, aux_layers=config.aux_layers)
    bound_decoding([layer], config, processes=1)
    workspace = Workspace(run or Path("runs") / name_of(inputs.dataset, config), config)
    check_folder(workspace.folder)
    check_refit(config, workspace.folder)
    before = workspace.saved()
    dataset = _as_begun(inputs.dataset, before)
    n_images = min(len(dataset.images), config.limit or len(dataset.images))
    check_k(config, n_images, layer)
    check_objective(config, layer)
    # The first images of a listing depend on the seed alone, not on how many share a shard.
    listing = make_listing(dataset, seed=config.seed, limit=config.limit, bytes_per_image=1)
    rule = pixel_rule(config, before, dataset.source, listing)
    probed = _probe(workspace, dataset, listing, layer, rule)
    check_non_negative(config, layer, probed)
    if before is None or before.stage("factorize").status != "done" or config.refit == "yes":
        check_labels(config, listing)
    return Intended(
        workspace=workspace,
        inputs=inputs,
        dataset=dataset,
        layer=layer,
        bytes_per_image=bytes_per_image(probed, config),
        needed=estimate(probed, layer, len(listing.frame), config),
        rule=rule,
        why=why,
        is_more=before is not None and (config.refit == "yes" or n_images > before.images.n),
    )


def begin(
    intended: Intended, *, as_made: bool = False, bytes_per_image: int | None = None, **facts: Any
) -> Workspace:
    """Make a run's folder, or find it again as it was begun.

    Parameters
    ----------
    intended : Intended
    as_made : bool
        As of `prepare`.
    bytes_per_image : int, optional
        What shards are cut by, where runs are made together: the most that an image takes in one.
    **facts
        Further ones for the record of a new run.

    Raises
    ------
    UserError
        The run was made otherwise, or cannot be written to.
    """
    workspace, inputs, layer = intended.workspace, intended.inputs, intended.layer
    config, dataset = workspace.config, intended.dataset
    listing = make_listing(
        dataset,
        seed=config.seed,
        limit=config.limit,
        bytes_per_image=bytes_per_image or intended.bytes_per_image,
    )
    record = new_record(
        config, dataset, inputs.network, layer, listing, inputs.matched, intended.rule
    )
    record = record.model_copy(update=facts)
    if intended.why:
        say(f"layer      {intended.why}")
    for each in told(intended.rule):
        say(f"pixels     {each}")
    with workspace.writing(), workspace.alone("prepare"):
        before, every = workspace.saved(), listing
        if config.limit is not None:
            every = make_listing(dataset, seed=config.seed, limit=None, bytes_per_image=1)
            every = dataclasses.replace(every, images_per_shard=listing.images_per_shard)
        if before is None:
            record, listing = recover(workspace, record, every) or (record, listing)
            check_lost(workspace, record, listing, dataset.source)
            forward = _recover(workspace, listing)
            _save(workspace, record.model_copy(update={"forward": forward}), listing)
        else:
            go_on(workspace, before, record, every, dataset.source, as_made=as_made)
    layer.rescale(workspace.record.layer.exponents)  # a part beside this one may have settled them
    workspace.hold(network=inputs.network, trunk=layer)
    return workspace


def _probe(
    workspace: Workspace, dataset: Dataset, listing: Listing, layer: Cut, rule: PixelRule
) -> Forward:
    """Run the network on a few images, and settle how its activations are scaled."""
    probed = probe(dataset, listing, layer, workspace.config, rule)
    before = workspace.saved()
    found = layer.find_exponents(probed) if before is None else before.layer.exponents
    if not found:
        return probed
    layer.rescale(found)
    return probe(dataset, listing, layer, workspace.config, rule)


def _as_begun(dataset: Dataset, before: RunRecord | None) -> Dataset:
    """Leave out files that cannot be opened and are no images of the run.

    Earlier versions refused them when the dataset was listed; now they are images like others,
    which may be opened another time.
    """
    refused = () if before is None else before.dataset.rejected
    closed = {each.path for each in refused if each.reason.startswith(UNREADABLE)}
    kept = [each for each in dataset.images if each.modified or each.path not in closed]
    return dataclasses.replace(dataset, images=tuple(kept))


def _recover(workspace: Workspace, listing: Listing) -> ForwardPass | None:
    """Return what ``run.json`` said of the forward pass, where it was lost but shards were not."""
    workspace.hold(listing=listing)
    store = workspace.activations
    for index in range(store.n_shards):
        if (found := store.record(index)) is not None and "forward" in found.made_from:
            return ForwardPass.model_validate_json(found.made_from["forward"])
    return None


def _save(workspace: Workspace, record: RunRecord, listing: Listing) -> None:
    """Write what a run starts from; ``run.json`` last, for it vouches for the others."""
    sums = write_start(workspace.folder, workspace.config, listing, {})
    record.model_copy(update={"files": sums}).save(workspace.record_path)
    workspace.reload("record", "listing")
