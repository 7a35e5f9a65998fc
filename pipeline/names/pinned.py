"""Names that people give: a table of them, and which concept of another fit each is.

Notation: W (channels × k) concepts. A pin keeps the direction w_j of its concept, of unit length:
what was named is found again in another fit as the concept whose direction is nearest, if that is
near enough. Concepts of other channels, or of another layer, have nothing to do with it.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .. import nmf
from ..errors import UserError
from ..escape import csv_cell, visible
from .known import Name, Named

COLUMNS = ("concept_id", "name", "fit", "space", "direction")
LONGEST = 80
"""Characters of a name, at most: a line of a card."""

SURE = 0.9
"""Cosine from which a concept of another fit is the one that was named; that of reappearance."""

Directions = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pin:
    """A name, and the concept that has it.

    Attributes
    ----------
    concept_id : int
    name : str
    fit : str
        Which concepts these are, see `fit_of`.
    space : str
        Of which network, layer and transform, see `space_of`.
    direction : ndarray
        float32 (channels,), of unit length.
    """

    concept_id: int
    name: str
    fit: str
    space: str
    direction: Directions


@dataclass(frozen=True)
class Carried:
    """What became of pins among the concepts of a fit.

    Attributes
    ----------
    named : dict of int to Named
        By concept, with what says that it is the one that was named.
    lost : tuple of str
        A sentence for each name that no concept has.
    """

    named: dict[int, Named]
    lost: tuple[str, ...]


def fit_of(W: Directions) -> str:
    """Return what tells concepts (channels, k) from those of another fit: 16 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(W).tobytes()).hexdigest()[:16]


def space_of(*parts: str) -> str:
    """Return what tells a network, its weights, a layer and a transform from others."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def check_name(name: str) -> str:
    """Return a name without what stands around it.

    Raises
    ------
    UserError
        It is empty, longer than `LONGEST`, or not a line of characters that can be seen.
    """
    name = name.strip()
    if not name or len(name) > LONGEST:
        raise UserError(f"a name has 1 to {LONGEST} characters, and {name[:LONGEST]!r} {len(name)}")
    if visible(name) != name:
        raise UserError(f"a name is one line of characters that can be seen, not {name!r}")
    return name


def pin(concept_id: int, name: str, W: Directions, space: str) -> Pin:
    """Name a concept of W (channels, k)."""
    w = W[:, concept_id].astype(np.float64)
    unit = (w / max(float(np.linalg.norm(w)), 1e-30)).astype(np.float32)
    return Pin(concept_id, check_name(name), fit_of(W), space, unit)


@dataclass(frozen=True)
class _Place:
    """Where a pin belongs among the concepts of a fit.

    `concept` has it, if any does; `nearest` is the concept whose direction is, None in another
    space; `cosine` to it is 1 where the pin is of this fit.
    """

    concept: int | None
    nearest: int | None
    cosine: float


def carry(pins: Sequence[Pin], W: Directions, space: str) -> Carried:
    """Find the concepts that have names, whichever fit they were named in.

    Parameters
    ----------
    pins : sequence of Pin
    W : ndarray
        float32 (channels, k).
    space : str
        What these are concepts of.
    """
    fit, places = fit_of(W), _places(pins, W, space)
    named = {
        at.concept: Named((Name(each.name),), _said(each, fit, at.cosine))
        for each, at in zip(pins, places, strict=True)
        if at.concept is not None
    }
    lost = []
    for each, at in zip(pins, places, strict=True):
        if at.concept is not None:
            continue
        if at.nearest is None:
            lost.append(f"{each.name!r} names a concept of another network, layer or transform")
        elif at.cosine < SURE:
            told = f"nearest: {at.nearest}, cosine {at.cosine:.2f}"
            lost.append(f"{each.name!r} is no concept here ({told})")
        elif at.nearest in named and (other := named[at.nearest].ranked[0].text) != each.name:
            lost.append(f"{each.name!r} would be concept {at.nearest}, which is called {other!r}")
    return Carried(named, tuple(lost))


def named_anew(
    pins: Sequence[Pin], concept_id: int, name: str, W: Directions, space: str
) -> tuple[Pin, ...]:
    """Return pins with another name of a concept, or, where that is empty, with none.

    Whatever named it before is gone, of whichever fit: no earlier name comes back.
    """
    places = _places(pins, W, space)
    kept = [
        each
        for each, at in zip(pins, places, strict=True)
        if concept_id not in (at.concept, at.nearest if at.cosine >= SURE else None)
    ]
    if name.strip():
        kept.append(pin(concept_id, name, W, space))
    return tuple(sorted(kept, key=lambda each: (each.fit, each.concept_id)))


def _places(pins: Sequence[Pin], W: Directions, space: str) -> list[_Place]:
    fit, k = fit_of(W), W.shape[1]
    found: dict[int, _Place] = {}
    others = []
    for at, each in enumerate(pins):
        if each.fit == fit and each.concept_id < k:
            found[at] = _Place(each.concept_id, each.concept_id, 1.0)
        elif each.space != space or len(each.direction) != len(W):
            found[at] = _Place(None, None, 0.0)
        else:
            others.append(at)
    taken = {place.concept for place in found.values()}
    if others:
        directions = torch.from_numpy(np.stack([pins[at].direction for at in others], 1))
        concepts = torch.from_numpy(W)
        partners, cosines = nmf.match(directions, concepts)
        nearest = (directions.T @ torch.nn.functional.normalize(concepts, dim=0)).max(1)
        for row, at in enumerate(others):
            best, most = int(nearest.indices[row]), float(nearest.values[row])
            is_it = float(cosines[row]) >= SURE and int(partners[row]) == best
            found[at] = _Place(best if is_it and best not in taken else None, best, most)
    return [found[at] for at in range(len(pins))]


def _said(each: Pin, fit: str, cosine: float) -> str:
    if each.fit == fit:
        return "Named by hand."
    return f"Named by hand as concept {each.concept_id} of another fit, cosine {cosine:.2f}."


def write(pins: Sequence[Pin]) -> str:
    """Write pins as CSV, a line each; directions are base64 of float16."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in pins:
        direction = base64.b64encode(each.direction.astype("<f2").tobytes()).decode("ascii")
        writer.writerow([each.concept_id, csv_cell(each.name), each.fit, each.space, direction])
    return lines.getvalue()


def read(text: str, where: str) -> tuple[Pin, ...]:
    """Read what `write` wrote.

    Raises
    ------
    UserError
        It names the file and the line, and what is wrong there.
    """
    rows = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise UserError(f"{where} has no column {missing[0]!r}; its columns are {list(COLUMNS)}")
    found = []
    for row in rows:
        try:
            raw = base64.b64decode(row["direction"] or "", validate=True)
            direction = np.frombuffer(raw, "<f2").astype(np.float32)
            concept_id = int(row["concept_id"] or "")
            if concept_id < 0 or not len(direction) or not np.isfinite(direction).all():
                raise ValueError("a concept and its direction are needed")
            found.append(
                Pin(concept_id, _name(row), row["fit"] or "", row["space"] or "", direction)
            )
        except (ValueError, binascii.Error, UserError) as error:
            raise UserError(f"{where}, line {rows.line_num}: {error}") from error
    return tuple(found)


def read_plain(text: str, where: str, W: Directions, space: str) -> tuple[Pin, ...] | None:
    """Read a table of ``concept_id`` and ``name`` alone, as people write it; None: it is another.

    Raises
    ------
    UserError
        It names the file and the line, and what is wrong there.
    """
    rows = csv.DictReader(io.StringIO(text))
    if set(rows.fieldnames or ()) != {"concept_id", "name"}:
        return None
    found = []
    for row in rows:
        try:
            concept_id = int(row["concept_id"] or "")
            if not 0 <= concept_id < W.shape[1]:
                raise ValueError(f"there is no concept {concept_id}; there are {W.shape[1]}")
            found.append(pin(concept_id, _name(row), W, space))
        except (ValueError, UserError) as error:
            raise UserError(f"{where}, line {rows.line_num}: {error}") from error
    return tuple(found)


def _name(row: dict[str, str]) -> str:
    """Return the name of a row as it was given, without what keeps spreadsheets from it."""
    name = row["name"] or ""
    plain = name.removeprefix("'")
    return check_name(plain if csv_cell(plain) == name else name)
