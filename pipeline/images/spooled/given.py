"""Datasets that a program holds: arrays, lists, iterables, datasets of torch and Hugging Face, and
tables of pandas; each as images, one after another, with what is known of them.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError, option
from ..manifest import PATHS, SPLITS
from .columns import ALL_LABELS, IMAGES
from .held_files import undecoded, with_file
from .items import Entry, Refused
from .labels import class_names, label_of, named
from .pixels import CHANNELS, is_image

OF_NAMES = ("name", *PATHS)

TAKES = (
    "a folder or file, uint8 arrays (n, height, width, 3), a list or iterable of images, of"
    " (image, label) or of dicts, a dataset of torch or Hugging Face, or a list of paths"
)


@dataclass(frozen=True)
class Given:
    """A dataset as it was given.

    Attributes
    ----------
    name : str
        What it is called.
    entries : callable
        Gives its images, from the first on.
    n : int or None
        How many there are, where it says so.
    is_lasting : bool
        Whether its images can be asked for again.
    n_bytes : int or None
        What its pixels take.
    """

    name: str
    entries: Callable[[], Iterator[Entry | Refused]]
    n: int | None
    is_lasting: bool
    n_bytes: int | None = None


def describe(dataset: Any, limit: int | None = None) -> Given:
    """Look at what was given for a dataset.

    Parameters
    ----------
    dataset : Any
        See `TAKES`.
    limit : int, optional
        How many images are taken of one that does not say how many it has.

    Raises
    ------
    UserError
        It is none.
    """
    dataset = _unpacked(dataset)
    if isinstance(dataset, Mapping):
        columns = {str(key).lower(): value for key, value in dataset.items()}
        image = next((name for name in IMAGES if name in columns), None)
        if image is None:
            return _of_splits(dataset, limit)
        label = next((name for name in ALL_LABELS if name in columns), None)
        dataset = (columns[image], columns[label]) if label else columns[image]
    if _is_stack(dataset):
        return _of_stack(dataset, itertools.repeat(None))
    if _is_with_labels(dataset):
        images, labels = dataset
        if _is_stack(images):
            return _of_stack(images, labels)
        pairs = list(zip(images, labels, strict=True))
        return _of_sequence(pairs, "images")
    names, dataset = _names_of_classes(dataset), undecoded(dataset)
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not _is_passing(dataset):
        name = "images" if isinstance(dataset, list | tuple) else type(dataset).__name__
        return _of_sequence(dataset, name, names)
    if hasattr(dataset, "__iter__"):
        return _of_iterable(dataset, names, limit)
    raise UserError(f"{option('dataset')} is {TAKES}; this is a {type(dataset).__name__}")


def _unpacked(dataset: Any) -> Any:
    """Bring what only wraps images to what holds them; refuse what is none."""
    if isinstance(dataset, Image.Image):
        raise UserError(f"{option('dataset')} is one picture; give a list of them, or explain() it")
    if hasattr(dataset, "batch_sampler") and hasattr(dataset, "dataset"):
        raise UserError(
            f"{option('dataset')} is a {type(dataset).__name__}, which gives batches: give what it"
            " loads from, dataset=loader.dataset"
        )
    if hasattr(dataset, "to_dict") and hasattr(dataset, "columns"):  # pandas
        return dataset.to_dict("records")
    if hasattr(dataset, "tolist") and len(getattr(dataset, "shape", ())) == 1:
        return list(dataset)  # objects in an array or a column
    return dataset


def _of_splits(parts: Mapping[Any, Any], limit: int | None) -> Given:
    """Describe datasets by the names of their splits, as Hugging Face loads them."""
    found = {str(key): describe(each, limit) for key, each in parts.items()}

    def entries() -> Iterator[Entry | Refused]:
        for key, part in found.items():
            for each in part.entries():
                if isinstance(each, Refused):
                    yield Refused(f"{key}, {each.at}", each.reason)
                else:
                    split = each.split or named(key)
                    yield Entry(f"{key}, {each.at}", each.image, each.label, each.name, split)

    counts = [part.n for part in found.values()]
    return Given(
        name="images",
        entries=entries,
        n=None if None in counts else sum(n for n in counts if n is not None),
        is_lasting=all(part.is_lasting for part in found.values()),
    )


def _of_stack(images: Any, labels: Iterable[Any]) -> Given:
    """Describe an array of images, the first axis of which counts them."""
    shape = tuple(images.shape)
    if len(shape) == 2 or (len(shape) == 3 and (shape[2] in CHANNELS or shape[0] == 3)):
        raise UserError(
            f"{option('dataset')} is an array {shape}, which looks like one image: several are"
            " (n, height, width, 3), or (n, height, width) where they are grey; a list of arrays"
            " takes them one by one"
        )
    if len(shape) == 4 and shape[3] not in CHANNELS and shape[1] not in CHANNELS:
        raise UserError(
            f"{option('dataset')} is an array {shape}: images are (n, height, width, 3) or"
            " (n, 3, height, width)"
        )

    def entries() -> Iterator[Entry]:
        for index, label in zip(range(shape[0]), labels, strict=False):
            yield Entry(f"image {index}", images[index], label_of(label))

    if not isinstance(labels, Sequence | np.ndarray):
        labels = list(itertools.islice(labels, shape[0]))
    n_bytes = int(getattr(images, "nbytes", 0)) or None
    return Given("array", entries, shape[0], is_lasting=True, n_bytes=n_bytes)


def _of_sequence(dataset: Any, name: str, names: Sequence[str] = ()) -> Given:
    """Describe what has a length and is asked by number."""

    def entries() -> Iterator[Entry | Refused]:
        for index in range(len(dataset)):
            at = f"image {index}"
            try:
                value = dataset[index]
            except MemoryError:
                raise
            except Exception as error:  # the program's own code: what it raises is of any kind
                yield Refused(at, f"it was not given: {type(error).__name__}: {error}")
                continue
            found = _entry(at, value, names)
            yield found if isinstance(found, Refused) else with_file(found, dataset, index)

    return Given(name, entries, len(dataset), is_lasting=True)


def _of_iterable(dataset: Any, names: Sequence[str], limit: int | None) -> Given:
    """Describe what gives one image after another, and may do so once, or for ever."""

    def entries() -> Iterator[Entry | Refused]:
        n = 0
        try:
            for value in itertools.islice(iter(dataset), limit):
                yield _entry(f"image {n}", value, names)
                n += 1
        except (UserError, MemoryError):
            raise
        except Exception as error:  # as above
            raise UserError(
                f"{option('dataset')}, a {type(dataset).__name__}, ended after {n} images with"
                f" {type(error).__name__}: {error}"
            ) from error

    plain = type(dataset).__name__
    return Given("images" if plain == "generator" else plain, entries, None, is_lasting=False)


def _entry(at: str, value: Any, names: Sequence[str]) -> Entry | Refused:
    """Take what a dataset gives apart: the image, its label, its name, its split."""
    if isinstance(value, Mapping) and not is_image(value):
        return _of_record(at, value, names)
    if isinstance(value, tuple | list) and value and is_image(value[0]):
        return Entry(at, value[0], label_of(value[1], names) if len(value) > 1 else None)
    if is_image(value):
        return Entry(at, value)
    return Refused(at, f"no image, but a {type(value).__name__}")


def _of_record(at: str, record: Mapping[Any, Any], names: Sequence[str]) -> Entry | Refused:
    lowered = {str(key).lower(): value for key, value in record.items()}
    take = partial(_first, lowered)
    image = take(IMAGES) if is_image(take(IMAGES)) else None
    if image is None:
        image = next((each for each in lowered.values() if is_image(each) and _is_held(each)), None)
    if image is None and isinstance(path := take(PATHS), str | Path):
        image = path
    if image is None:
        return Refused(at, f"no image in {', '.join(map(repr, record)) or 'it'}")
    name, split = take(OF_NAMES), take(SPLITS)
    return Entry(
        at=at,
        image=image,
        label=label_of(take(ALL_LABELS), names),
        name=str(name) if isinstance(name, str | Path | numbers.Integral) else None,
        split=named(split) if isinstance(split, str) and split else None,
    )


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((record[name] for name in names if name in record), None)


def _is_held(value: Any) -> bool:
    """Say whether a value is an image whatever it is called: texts may say anything."""
    return not isinstance(value, str | Path)


def _is_stack(dataset: Any) -> bool:
    shape = getattr(dataset, "shape", None)
    return isinstance(shape, tuple) and len(shape) in (2, 3, 4) and hasattr(dataset, "dtype")


def _is_passing(dataset: Any) -> bool:
    """Say whether a dataset of torch only gives one after another, though it says how many."""
    return any(each.__name__ == "IterableDataset" for each in type(dataset).__mro__)


def _is_with_labels(dataset: Any) -> bool:
    """Say whether two are given, images and their labels."""
    if not isinstance(dataset, tuple) or len(dataset) != 2:
        return False
    images, labels = dataset
    if not (_is_stack(images) or isinstance(images, list)) or not hasattr(labels, "__len__"):
        return False
    if isinstance(labels, str | bytes) or len(images) != len(labels):
        return False
    return len(labels) > 0 and (isinstance(labels[0], str) or not is_image(labels[0]))


def _names_of_classes(dataset: Any) -> tuple[str, ...]:
    """Return the names of a dataset's classes, as torchvision or Hugging Face keep them."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        for name in [*(each for each in ALL_LABELS if each in features), *features]:
            if found := class_names(_as_said(features[name])):
                return found
        return ()
    for each in _within(dataset):
        names = getattr(each, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return tuple(names)
    return ()


def _within(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, and those that torch's Subset and the like take images from."""
    for _ in range(10):
        yield dataset
        dataset = getattr(dataset, "dataset", None)
        if dataset is None:
            return


def _as_said(feature: Any) -> Any:
    """Return a feature of Hugging Face as it is written down."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return {"feature": _as_said(inner)}
    names = getattr(feature, "names", None)
    return feature if names is None else {"names": names}
