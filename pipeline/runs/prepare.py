"""Checking everything a user gave before any work starts, and making the run's folder."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from .. import checkout
from ..config import SAMPLE, Config, dump_toml
from ..errors import UserError, command, option
from ..images import (
    UNREADABLE,
    Dataset,
    DatasetSource,
    FolderSource,
    list_dataset,
)
from ..images.source import FOLDER, TABLE
from ..models import Cut, Network, choose_layer, configured, consent, cut, why_auto
from ..models.cut import Forward
from ..sample import write_sample
from ..store import Listing, make_listing
from ..system import checksums, files
from ..system.progress import say
from .beginning import new_record, remembered
from .checks import (
    check_device,
    check_folder,
    check_k,
    check_non_negative,
    check_plugins,
    check_shareable,
    tell_outside,
)
from .estimate import bound_decoding, bytes_per_image, check_fits, estimate, probe
from .identity import check_contents, check_lost, check_same, check_same_images
from .label_classes import match_labels, renamed
from .record import (
    ForwardPass,
    RunRecord,
)
from .retry import try_again
from .workspace import Workspace

CONFIG, LISTING = "config.toml", "activations/images.parquet"
SAMPLE_FOLDER = checkout.folder("data") / "sample"


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
    if run is not None and run.exists():  # before hours of reading
        check_folder(run)
        files.check_writable(run)
    dataset = _find_dataset(config)
    check_device(config.device)
    check_shareable(config)
    check_plugins(config)
    consent.check(_model(config))
    network = configured(config, _model(config))
    for note in network.notes:
        say(f"network    {note}")
    matched = match_labels(config, dataset, network)
    if note := renamed(matched[1], network):
        say(f"network    {note}")
    if config.layer == "auto":
        say(f"layer      {why_auto(network)}")
    config = _resolve(config, network, dataset)
    layer = cut(network, config.layer, aux_layers=config.aux_layers)
    bound_decoding(layer, config, processes=1)
    workspace = Workspace(run or Path("runs") / _name(dataset, config), config)
    check_folder(workspace.folder)
    dataset = _as_begun(dataset, workspace.saved())
    n_images = min(len(dataset.images), config.limit or len(dataset.images))
    check_k(config, n_images, layer)
    # The first images of a listing depend on the seed alone, not on how many share a shard.
    listing = make_listing(dataset, seed=config.seed, limit=config.limit, bytes_per_image=1)
    probed = _probe(workspace, dataset, listing, layer)
    check_non_negative(config, layer, probed)
    listing = make_listing(
        dataset,
        seed=config.seed,
        limit=config.limit,
        bytes_per_image=bytes_per_image(probed, config),
    )
    record = new_record(config, dataset, network, layer, listing, matched)
    folder = workspace.folder
    if not workspace.is_finished():
        check_fits(estimate(probed, layer, len(listing.frame), config), folder, config)
    files.check_writable(folder)
    with workspace.writing(), workspace.alone("prepare"):
        before = workspace.saved()
        if before is None:
            check_lost(workspace, record, listing, dataset.source)
            forward = _recover(workspace, listing)
            _save(workspace, record.model_copy(update={"forward": forward}), listing)
        else:
            check_same(workspace, before, record)
            _update(workspace, before, record, listing, dataset.source, as_made=as_made)
    layer.rescale(workspace.record.layer.exponents)  # a part beside this one may have settled them
    workspace.hold(network=network, cut=layer)
    return workspace


def _probe(workspace: Workspace, dataset: Dataset, listing: Listing, layer: Cut) -> Forward:
    """Run the network on a few images, and settle how its activations are scaled."""
    probed = probe(dataset, listing, layer, workspace.config)
    before = workspace.saved()
    found = layer.find_exponents(probed) if before is None else before.layer.exponents
    if not found:
        return probed
    layer.rescale(found)
    return probe(dataset, listing, layer, workspace.config)


def _name(dataset: Dataset, config: Config) -> str:
    """Name a run after its contents."""
    parts = (dataset.name, config.model.rpartition("/")[2], config.layer, config.digest())
    return re.sub(r"[/:\\\\]", "-", "-".join(parts))


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


def _update(
    workspace: Workspace,
    before: RunRecord,
    record: RunRecord,
    listing: Listing,
    source: DatasetSource,
    *,
    as_made: bool,
) -> None:
    """Go on with a run: check its images, and note where things lie and how to work now."""
    path = workspace.folder / LISTING
    is_whole = _is_as_written(workspace.folder, before)
    touched = True
    if is_whole[LISTING]:
        old = Listing.load(path)
        # Shards that are there stay as they were cut, whatever size new runs give theirs.
        listing = dataclasses.replace(listing, images_per_shard=old.images_per_shard)
        if as_made and _is_extracted(workspace, old):
            touched, listing = False, old
        else:
            touched = check_same_images(workspace, old, listing, source)
    elif before.images != record.images:
        raise UserError(
            f"{path} is damaged, and the dataset is no longer as it was; pass another"
            f" {option('run')}, or start over after {command('clean', run=workspace.folder)}"
        )
    else:
        workspace.hold(listing=listing)
        check_contents(workspace, listing, source)
    # What was refused when the run was begun stays in its table.
    dataset = record.dataset.model_copy(update={"rejected": before.dataset.rejected})
    config = {**before.config, **remembered(workspace.config).model_dump(mode="json")}
    facts = {"dataset": dataset, "config": config}
    if touched or before.model_copy(update=facts) != before or not all(is_whole.values()):
        # Of the record as it is by then: a part beside this one adds to it meanwhile.
        workspace.note(**facts, files=_write_start(workspace, listing))
        workspace.reload("listing")
    try_again(workspace, source)


def _is_extracted(workspace: Workspace, listing: Listing) -> bool:
    """Say whether all of a run's images went through the network."""
    workspace.hold(listing=listing)
    stores = (workspace.activations, workspace.heatmaps)
    return all(any(each.is_there(n) for each in stores) for n in range(listing.n_shards))


def _save(workspace: Workspace, record: RunRecord, listing: Listing) -> None:
    """Write what a run starts from; ``run.json`` last, for it vouches for the others."""
    sums = _write_start(workspace, listing)
    record.model_copy(update={"files": sums}).save(workspace.record_path)
    workspace.reload("record", "listing")


def _write_start(workspace: Workspace, listing: Listing) -> dict[str, str]:
    """Write the listing and the configuration, and return their digests."""
    folder = workspace.folder
    listing.save(folder / LISTING)
    files.write_text(folder / CONFIG, dump_toml(remembered(workspace.config)))
    return {name: checksums.sha256(folder / name) for name in (CONFIG, LISTING)}


def _is_as_written(folder: Path, record: RunRecord) -> dict[str, bool]:
    return {
        name: (folder / name).is_file() and checksums.sha256(folder / name) == digest
        for name, digest in record.files.items()
    }


def _model(config: Config) -> str:
    if config.model != "auto":
        return config.model
    return SAMPLE if config.dataset == SAMPLE else "resnet50"


def _resolve(config: Config, network: Network, dataset: Dataset) -> Config:
    """Put in place of ``auto`` and relative paths what they come to."""
    return config.model_copy(
        update={
            "model": network.name,
            "layer": choose_layer(network, config.layer),
            "image_size": network.image_size,
            "weights": _absolute(config.weights, Path("random")),
            "classes": _absolute(config.classes),
            "class_names": _absolute(config.class_names),
            "dataset": _reopened(config, dataset),
        }
    )


def _reopened(config: Config, dataset: Dataset) -> str:
    """Write the dataset so that it is found again from any working folder."""
    if config.dataset == SAMPLE and dataset.name == SAMPLE:
        return SAMPLE
    if dataset.kind in (FOLDER, TABLE):
        return str(Path(config.dataset).resolve())
    return f"{dataset.kind}:{dataset.source.where}"


def _absolute(path: Path | None, *words: Path) -> Path | None:
    """Make a path absolute, so that the run is found again from elsewhere; words stay."""
    return path if path is None or path in words else path.resolve()


def _find_dataset(config: Config) -> Dataset:
    if config.dataset == SAMPLE and not Path(SAMPLE).exists():
        if not SAMPLE_FOLDER.exists():
            say(f"sample     rendering the bundled sample into {SAMPLE_FOLDER} (once)")
        write_sample(SAMPLE_FOLDER)
        listed = list_dataset(SAMPLE_FOLDER / "images")
        named = FolderSource(SAMPLE_FOLDER / "images", SAMPLE)
        return dataclasses.replace(listed, source=named)
    listed = list_dataset(config.dataset)
    tell_outside(listed)
    return listed
