"""What an evaluation came to, and the files that keep it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..escape import csv_cell
from ..localize.alignment import summary
from ..runs.stages import EVALUATION
from ..store import begin, read_begun, read_record, write_record
from ..system import files


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to.

    Attributes
    ----------
    images : DataFrame
        A row per image: image_id, path, label, j, precision, corloc, mae; of boxes j, precision
        and mae are NaN.
    parts : dict
        nmi, ari (whole images), fg_nmi, fg_ari (pixels of parts alone); empty without label maps.
    picture : ndarray
        uint8 (height, width, 3): the best images, the middle ones and the worst, what was found in
        orange, what is true in blue.
    max_f : float
        The largest F of all thresholds, β² = 0.3; NaN without masks.
    aligned : DataFrame
        Of each label of the dataset, and each part of the truth, the concept that tells it best:
        of ("label" or "part"), name, n, concept_id, ap, purity.
    unused : tuple of (str, str)
        Images whose truth could not be used, and why.
    said : tuple of str
        How the truth was read, and how many images it covers.
    """

    images: pd.DataFrame
    parts: dict[str, float]
    picture: NDArray[np.uint8] = field(repr=False)
    max_f: float = float("nan")
    aligned: pd.DataFrame = field(default_factory=pd.DataFrame)
    unused: tuple[tuple[str, str], ...] = ()
    said: tuple[str, ...] = ()

    def by_label(self) -> pd.DataFrame:
        """Return means by label and, last, over all images, with how many there are."""
        columns = [each for each in ("j", "precision", "corloc", "mae") if each in self.images]
        each = self.images.explode("labels")  # an image of several counts for each of them
        groups = [*each.groupby("labels", dropna=True), ("all", self.images)]
        rows = [
            {"label": label, "images": len(part), **part[columns].mean().to_dict()}
            for label, part in groups
        ]
        return pd.DataFrame(rows)

    def alignment(self) -> dict[str, dict[str, float]]:
        """Return mAP, purity and coverage of the best concepts of labels, and of parts."""
        return {
            str(of): summary(rows)
            for of, rows in (self.aligned.groupby("of") if len(self.aligned) else ())
        }

    def facts(self) -> dict[str, Any]:
        """Return everything that is one number, and how the truth was read, for JSON."""
        numbers = {"max_f": self.max_f, "parts": self.parts, "concepts": self.alignment()}
        unused = [{"what": what, "why": why} for what, why in self.unused]
        plain = {key: _plain(value) for key, value in numbers.items()}
        return {**plain, "said": list(self.said), "unused": unused}

    def save(self, folder: Path) -> list[Path]:
        """Write ``scores.csv``, by image, ``labels.csv``, ``concepts.csv`` (the best of each label
        and part), ``summary.json`` and ``objects.png``; return their paths.

        In CSV, paths and labels that a spreadsheet would take for a formula, from their first
        character ``=``, ``+``, ``-``, ``@``, tab or carriage return, have an apostrophe before it.
        Their record, ``evaluation.json``, says that all are ours.

        Raises
        ------
        UserError
            A file of that name is there, and not ours.
        """
        paths = [folder / name for name in EVALUATION.files]
        record, begun = (
            folder / f"{EVALUATION.product}{ending}" for ending in (".json", ".begun.json")
        )
        earlier = read_record(record, EVALUATION.makes)
        ours = {*read_begun(begun, EVALUATION.makes), *(earlier.files if earlier else ())}
        for path in paths:
            if path.exists() and path.name not in ours:
                raise UserError(f"{path} is of no evaluation of ours; move it")
        begin(begun, EVALUATION.files)
        scores, labels, concepts, summary_path, picture = paths
        _write_csv(scores, self.images.drop(columns="labels"))
        _write_csv(labels, self.by_label())
        _write_csv(concepts, self.aligned)
        files.write_json(summary_path, self.facts())
        shown = Image.fromarray(self.picture)
        files.write_with(picture, lambda path: shown.save(path, format="PNG"))
        write_record(record, paths)
        files.remove(begun)
        return paths


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    text = io.StringIO()
    # With lines as of RFC 4180, so that a carriage return in a name is quoted and begins none.
    table.map(csv_cell).to_csv(text, index=False, lineterminator="\r\n")
    files.write_text(path, text.getvalue())


def _plain(value: Any) -> Any:
    """Return numbers as JSON has them: what is not known is null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
