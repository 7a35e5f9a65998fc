"""Which images of a run are the same picture, and the split that follows from it.

Copies, in which the network sees the same, count once. Near-duplicates all count, on one side of
the split: what is measured on held-out images must not have been fitted on their like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..images.alike import agreement, first_of_groups, near_pairs, pack
from ..images.look import SIDE
from ..store import Arrays, Listing, ShardStore


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What is known of the images of a run that could be read, in working order.

    Attributes
    ----------
    image_id : ndarray
        int64 (n,).
    original : ndarray
        int64 (n,), the place of the first image in which the network sees the same.
    first : ndarray
        int64 (n,), the place of the first image of each one's group: its own, where it is that one
        or has no duplicates.
    agreement : ndarray
        float64 (n,), with the first of the group, see `images.alike.agreement`; of that one, and of
        its copies, 1.
    """

    image_id: NDArray[np.int64]
    original: NDArray[np.int64]
    first: NDArray[np.int64]
    agreement: NDArray[np.float64]

    @property
    def is_copy(self) -> NDArray[np.bool_]:
        """In which images the network sees what it sees in one before them, bool (n,)."""
        copies: NDArray[np.bool_] = self.original != np.arange(len(self.original))
        return copies

    @property
    def is_near(self) -> NDArray[np.bool_]:
        """Which images count beside one that they are near-duplicates of, bool (n,)."""
        near: NDArray[np.bool_] = ~self.is_copy & (self.first != np.arange(len(self.first)))
        return near


def find_duplicates(listing: Listing, store_of: Callable[[int], ShardStore]) -> Duplicates:
    """Find copies and near-duplicates.

    Parameters
    ----------
    listing : Listing
        The images.
    store_of : callable
        Gives for a shard's number the shards in which that one is there. Those of earlier versions
        know of copies alone, or of nothing: then all images differ.
    """
    image_ids, seen, looks = [np.zeros(0, np.int64)], [], []
    for shard in range(listing.n_shards):
        names, optional = ["image_id"], ["seen", "look"]
        arrays = store_of(shard).read(shard, names, optional=optional, compared=False)
        image_ids.append(arrays["image_id"])
        n = len(arrays["image_id"])
        # Where it is not known what the network sees, all differ.
        seen.append(arrays.get("seen", arrays["image_id"].astype("S20")).astype("S32"))
        looks.append(arrays.get("look", np.zeros(n, "S32")).astype("S32"))
    image_id = np.concatenate(image_ids)
    if not len(image_id):
        return Duplicates(image_id, image_id, image_id, np.zeros(0))
    original = _first_equal(np.concatenate(seen))
    is_copy = original != np.arange(len(original))
    look = np.concatenate(looks)
    compared = np.flatnonzero(~is_copy & (look != b""))
    pairs = compared[near_pairs(pack(look[compared].tolist()))]
    agreed = agreement(*_thumbnails(listing, store_of, image_id, pairs))
    pairs, agreed = pairs[agreed > 0], agreed[agreed > 0]
    first = first_of_groups(len(image_id), pairs)
    found = np.ones(len(image_id))
    belongs = first[pairs[:, 1]] == pairs[:, 0]
    found[pairs[belongs, 1]] = agreed[belongs]
    return Duplicates(image_id, original, first[original], found[original])


def settled(frame: pd.DataFrame, found: Duplicates, n_fitted: int) -> pd.DataFrame:
    """Return the rows of a listing whose images could be read, with the split that counts.

    Of images in which the network sees the same, the first counts; the split of the others is
    ``copy``: they are evidence of nothing, nor held out from what was fitted on the first. A group
    of near-duplicates has the split of its first image. Where none that were to be fitted on are
    left, all are: their split is ``fit``. What the run was given after its concepts were fitted to
    the first `n_fitted` images is held out, but for near-duplicates of what was fitted on.
    """
    frame = frame[frame["image_id"].isin(found.image_id)]
    is_later = frame.index >= n_fitted
    split = frame["split"].mask(is_later, "heldout")
    split = split.iloc[found.first].set_axis(frame.index).mask(found.is_copy, "copy")
    if not (split == "fit").any():
        split = split.mask(~found.is_copy & ~is_later, "fit")
    return frame.assign(split=split)


def tell_duplicates(found: Duplicates, labels: pd.Series) -> list[str]:
    """Say what there is of copies and near-duplicates, in a line or two; nothing, where none are.

    Parameters
    ----------
    found : Duplicates
    labels : Series
        Of the same images, in that order.
    """
    n, n_copies, is_near = len(found.first), int(found.is_copy.sum()), found.is_near
    n_near, n_groups = int(is_near.sum()), len(np.unique(found.first[is_near]))
    said = [f"{n:,} images"]
    if n_copies:
        said[0] += f", {n - n_copies:,} distinct: copies count once"
    if n_near:
        said.append(
            f"{_count(n_near, 'near-duplicate')} in {_count(n_groups, 'group')}, each on one side"
            " of the split"
        )
    lines = ["; ".join(said)] if n_copies or n_near else []
    label, other = labels.to_numpy(object), labels.to_numpy(object)[found.first]
    n_other = int((labels.notna().to_numpy() & pd.notna(other) & (label != other)).sum())
    if n_other:
        lines.append(
            f"{_count(n_other, 'duplicate')} of another label than the first of the group: see the"
            " table duplicates, same_label"
        )
    return lines


def _count(n: int, name: str) -> str:
    return f"{n:,} {name}{'s' if n != 1 else ''}"


def _first_equal(texts: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return for each text the place of the first that is equal, int64 (n,)."""
    codes, _ = pd.factorize(texts)
    _, firsts = np.unique(codes, return_index=True)  # numbered as they come
    found: NDArray[np.int64] = firsts[codes]
    return found


def _thumbnails(
    listing: Listing,
    store_of: Callable[[int], ShardStore],
    image_id: NDArray[np.int64],
    pairs: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the thumbnails of pairs of images, uint8 (pairs, SIDE, SIDE) each; of others none."""
    wanted, at = np.unique(pairs, return_inverse=True)
    parts = [np.zeros((0, SIDE, SIDE), np.uint8)]
    parts += [arrays["thumbnail"] for arrays in _read(listing, store_of, image_id[wanted])]
    thumbnails = np.concatenate(parts)
    left, right = thumbnails[at.reshape(-1, 2)].swapaxes(0, 1)
    return left, right


def _read(
    listing: Listing, store_of: Callable[[int], ShardStore], image_ids: NDArray[np.int64]
) -> Iterator[Arrays]:
    asked = frozenset(image_ids.tolist())
    shards = listing.shards_of(listing.places(image_ids))
    for shard in np.unique(shards).tolist():
        yield store_of(shard).read(shard, ["thumbnail"], asked, compared=False)
