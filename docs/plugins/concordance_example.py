"""One plug-in of each kind; docs/PLUGINS.md goes through it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from concordance.atlas.page import Material, Page
from concordance.errors import UserError
from concordance.images import ImageRecord, make_record
from concordance.models.network import Network
from concordance.models.source import RANDOM, Wanted
from concordance.models.weights import digest
from concordance.names import Described, Name, Named
from concordance.tables import Column, Facts
from numpy.typing import NDArray
from PIL import Image
from torch import nn

# A dataset source: DATASET=shapes:60


class Shapes:
    """Squares and discs on noise, drawn when they are asked for."""

    def __init__(self, n: int) -> None:
        self.name, self.where = f"shapes{n}", str(n)

    def images(self) -> Iterator[ImageRecord]:
        """List the images: path within the dataset, and label."""
        for index in range(int(self.where)):
            label = ("square", "disc")[index % 2]
            yield make_record(f"{label}/{index}.png", label)

    def read(self, image: ImageRecord) -> NDArray[np.uint8]:
        """Draw an image: uint8 (height, width, 3). A source of files would return their bytes."""
        rng = np.random.default_rng(image.image_id)
        pixels = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        y, x = np.mgrid[:64, :64] - rng.integers(20, 44, 2)[:, None, None]
        inside = x**2 + y**2 < 150 if image.label == "disc" else (abs(x) < 11) & (abs(y) < 11)
        pixels[inside] = rng.integers(160, 256, 3)
        return pixels


def open_shapes(where: str) -> Shapes:
    """Open `shapes:<n>`: what stands after the colon is `where`."""
    if not where.isdecimal():
        raise UserError(f"shapes:{where} is no number of images, as shapes:60")
    return Shapes(int(where))


# A network source: MODEL=example:stripes


class Networks:
    """One small network; another source would look its names up somewhere."""

    def names(self) -> Iterable[str]:
        """List the names, for messages."""
        return ["stripes"]

    def load(self, name: str, wanted: Wanted) -> Network:
        """Build the network, its preprocessing and its class names."""
        if name != "stripes":
            raise UserError(f"example has no network {name!r}; it has stripes")
        if wanted.weights not in (None, RANDOM):
            raise UserError("the networks of example have no weights in files")
        torch.manual_seed(wanted.seed)
        module = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 2),
        )  # fmt: skip
        return Network(
            name=name,
            module=module,
            image_size=wanted.image_size or 64,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            classes=("square", "disc"),
            weights_sha256=digest(module.state_dict()),
            weights_source=wanted.drawn,
        )


NETWORKS = Networks()


# A mask refiner: run.object_mask(image_id, refined="plain"), REFINER=plain


def refine(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Take the evidence as it is, brought to the image's size."""
    height, width = image.shape[:2]
    odds = Image.fromarray(np.nan_to_num(evidence, nan=-np.inf).clip(-9, 9))
    return np.asarray(odds.resize((width, height))) > 0


# A namer: NAMER=labels


def name_by_labels(concepts: Sequence[Described]) -> list[Named | None]:
    """Call each concept after the label it goes with most; those without one have no name."""
    names: list[Named | None] = []
    for concept in concepts:
        ranked = tuple(Name(each.label, (each.label,)) for each in concept.labels[:3])
        names.append(Named(ranked, f"φ {concept.labels[0].phi:.2f}") if ranked else None)
    return names


# A table column: PLUGINS=log_energy


def _log_energy(of: Facts) -> NDArray[np.float64]:
    return np.log10(of.rows["energy"].to_numpy())


LOG_ENERGY = Column(
    name="log_energy",
    type=pa.float64(),
    meaning="decimal logarithm of the energy",
    unit="decades",
    of=_log_energy,
    table="concepts",
)


# A page of the atlas: PLUGINS=confusions

SOURCE = """
{% extends "base.html" %}
{% block title %}Confusions{% endblock %}
{% block main %}
<div class="page-head"><h1>What is taken for what</h1></div>
<table>
  <tr><th>label</th><th>taken for</th><th>images</th></tr>
  {% for row in page %}<tr><td>{{ row.label }}</td><td>{{ row.pred_label }}</td>
  <td>{{ row.n }}</td></tr>{% endfor %}
</table>
{% endblock %}
"""


def confusions(material: Material) -> Iterator[Page]:
    """Give one page: which label is taken for which class, how often."""
    rows = material.book.data.sql(
        "select label, pred_label, count(*) as n from images group by all"
        " order by n desc, label, pred_label"
    ).to_dict("records")
    yield Page("confusions.html", lambda: rows, source=SOURCE, link="Confusions")
