"""What is known of concepts that mislead, in one JSON file beside the bank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..system import files
from .encoding import Encoding, read_sealed, seal

SUSPECTS = Encoding("concordance.suspects", "1.0")

NUMBERS = {
    "concept_id", "n_images", "n_labels", "score", "q_value", "gain", "accuracy_with",
    "accuracy_without", "accuracy_ablated", "repaired", "broken", "spread", "background", "fixed",
}  # fmt: skip
"""What a row has beside lists and a text; see the table ``suspects``."""


@dataclass(frozen=True)
class Suspects:
    """Concepts that move the network's answers away from the labels, the worst first.

    Attributes
    ----------
    rows : list of dict
        One per suspect: `NUMBERS`; ``with_concepts`` (list of int), those taken out with it;
        ``to`` (list of int, classes), ``labels`` (list of str, from which), ``place`` (str).
    n_images, n_labels : int
        Images looked at, and labels of theirs.
    reason : str
        Why there are no rows; empty where there are some.
    """

    rows: list[dict[str, Any]]
    n_images: int
    n_labels: int
    reason: str


def write_suspects(path: Path, found: Suspects) -> None:
    """Write what was found to its file."""
    files.write_json(path, seal(SUSPECTS, vars(found)))


def read_suspects(path: Path, k: int, n_classes: int) -> Suspects:
    """Read what `write_suspects` wrote, of a run with k concepts of a network with so many classes.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    says = read_sealed(path, SUSPECTS)
    try:
        found = Suspects(
            list(says["rows"]), int(says["n_images"]), int(says["n_labels"]), str(says["reason"])
        )
        for row in found.rows:
            is_of_run = 0 <= row["concept_id"] < k and all(
                0 <= each < n_classes for each in row["to"]
            )
            if not is_of_run or not row.keys() >= NUMBERS:
                raise ValueError(f"it tells of {row.get('concept_id')!r} otherwise than it should")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error})") from error
    return found
