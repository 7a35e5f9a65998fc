"""What meaning is measured on: bounded samples of a run's images, read a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from ..classify import Answers, contributions
from ..errors import UserError, option
from ..runs.workspace import Workspace
from ..store import Bank, sample_positions

N_POSITIONS = 20_000
"""Real positions of fit images, for the null and for the SVD: 2,000 of nearly any norm."""

N_POSITIONS_GENERAL = 4_000
"""The same where every position costs a pass through a head that is no linear map."""

AT_ONCE = 32
"""Images held in memory at once, float32."""

STAND_INS = ("nmf", "svd", "mean")
"""Names of our own stand-ins; see `RunSamples.stand_ins`."""

StandIn = Callable[[torch.Tensor], torch.Tensor]
"""From V float32 (n, h, w, channels) to what takes its place, of the same shape."""


@dataclass(frozen=True)
class Images:
    """Some of a run's images as the layer sees them, in working order.

    Attributes
    ----------
    image_id : ndarray
        int64 (n,).
    V : Tensor
        float32 (n, h, w, channels).
    logits : Tensor
        float32 (n, classes), as of `Workspace.logits`.
    prefix : Tensor or None
        float32 (n, tokens, channels).
    """

    image_id: NDArray[np.int64]
    V: torch.Tensor
    logits: torch.Tensor
    prefix: torch.Tensor | None


@dataclass(frozen=True)
class Seen:
    """Images with their concepts and the network's answers, in working order.

    Attributes
    ----------
    image_id : ndarray
        int64 (n,).
    H : Tensor
        float32 (n, h, w, k).
    truth : Tensor
        float32 (n, classes), logits on V, exact.
    contributions : Tensor
        float32 (n, k), to the class the network gives the image.
    prefix : Tensor or None
        float32 (n, tokens, channels).
    answers : dict
        Name of what stood in for V to its logits, float32 (n, classes).
    """

    image_id: NDArray[np.int64]
    H: torch.Tensor
    truth: torch.Tensor
    contributions: torch.Tensor
    prefix: torch.Tensor | None
    answers: dict[str, torch.Tensor]

    @property
    def top(self) -> torch.Tensor:
        """The class the network gives each image, int64 (n,)."""
        return self.truth.argmax(1)

    @staticmethod
    def join(parts: list[Seen]) -> Seen:
        """Put batches of images together."""
        prefixes = [part.prefix for part in parts if part.prefix is not None]
        return Seen(
            np.concatenate([part.image_id for part in parts]),
            torch.cat([part.H for part in parts]),
            torch.cat([part.truth for part in parts]),
            torch.cat([part.contributions for part in parts]),
            torch.cat(prefixes) if prefixes else None,
            {name: torch.cat([part.answers[name] for part in parts]) for name in parts[0].answers},
        )


@dataclass(frozen=True)
class RunSamples:
    """A run's images and positions, for measuring what its concepts mean."""

    workspace: Workspace
    tick: Callable[[int], object] = lambda n: None
    """Told of so many images more that were read."""

    @cached_property
    def positions(self) -> torch.Tensor:
        """A sample of positions of fit images, float32 (≤ `N_POSITIONS`, channels), decoded."""
        return self._drawn[0]

    @cached_property
    def owners(self) -> torch.Tensor:
        """The image of each of `positions`, int64."""
        return torch.from_numpy(self._drawn[1])

    @cached_property
    def _drawn(self) -> tuple[torch.Tensor, NDArray[np.int64]]:
        workspace = self._fitted
        n = N_POSITIONS_GENERAL if workspace.cut.linear is None else N_POSITIONS
        seed = workspace.config.seed + 1  # not the positions that W was fitted on
        several = len(workspace.listing.starts) > 1
        image_ids = workspace.sample("fit", n) if several else workspace.ids("fit")
        return sample_positions(workspace.activations, image_ids, n, seed)

    @cached_property
    def _fitted(self) -> Workspace:
        return self.workspace.fitted

    @property
    def split(self) -> str:
        """The images to measure on: ``heldout``, or ``fit`` where none of these could be read."""
        return "heldout" if self._fitted.ids("heldout") else "fit"

    def image_ids(self, n: int, split: str | None = None) -> list[int]:
        """Return the first n images of a split, a random sample without copies.

        What the run was given after its concepts were fitted is not among them.
        """
        frame = self._fitted.images
        chosen = frame.image_id[frame.split != "copy" if split is None else frame.split == split]
        return [int(image_id) for image_id in chosen.head(n)]

    def read(self, image_ids: list[int]) -> Iterator[Images]:
        """Read images, `AT_ONCE` at most at a time; rejected ones are not there."""
        store, wanted = self.workspace.activations, np.array(image_ids, dtype=np.int64)
        names = ["V", "logits", "image_id", *(["prefix"] if self.workspace.cut.n_prefix else [])]
        listing, asked = self.workspace.listing, frozenset(image_ids)
        places = listing.places(wanted)
        for shard in np.unique(listing.shards_of(places[places >= 0])).tolist():
            arrays = store.read(shard, names, asked)
            for start in range(0, len(arrays["image_id"]), AT_ONCE):
                chosen = slice(start, start + AT_ONCE)
                prefix = arrays.get("prefix")
                self.tick(len(arrays["image_id"][chosen]))
                V = torch.from_numpy(arrays["V"][chosen]).float()
                logits = torch.from_numpy(arrays["logits"][chosen]).float()
                yield Images(
                    arrays["image_id"][chosen],
                    V,
                    self.workspace.logits(V, logits),
                    None if prefix is None else torch.from_numpy(prefix[chosen]).float(),
                )

    def see(
        self,
        image_ids: list[int],
        bank: Bank | None = None,
        stand_ins: Mapping[str, StandIn] | None = None,
    ) -> Seen:
        """Find concepts in images, and ask the network about them and about what stands in.

        Parameters
        ----------
        image_ids : list of int
            Which images; see `image_ids`.
        bank : Bank, optional
            The concepts; those of the run by default.
        stand_ins : mapping, optional
            Names to what takes the place of V.
        """
        bank = bank or self.workspace.bank
        parts: list[Seen] = []
        for images in self.read(image_ids):
            answers = Answers(self.workspace.cut, bank, images.prefix)
            H = bank.strengths(images.V)
            truth = answers.head(images.V)
            parts.append(
                Seen(
                    image_id=images.image_id,
                    H=H,
                    truth=truth,
                    contributions=contributions(
                        self.workspace.cut, bank, images.V, H, truth, images.prefix
                    ),
                    prefix=images.prefix,
                    answers={
                        name: answers.head(stand_in(images.V))
                        for name, stand_in in (stand_ins or {}).items()
                    },
                )
            )
        if not parts:
            raise UserError(f"{self.workspace.folder} holds none of the images asked for")
        return Seen.join(parts)

    def stand_ins(self, bank: Bank) -> dict[str, StandIn]:
        """Return what takes the place of V: the concepts, SVD of the same rank, the mean."""
        transform = bank.transform
        mean, basis = self.positions.mean(0), self._basis(bank.k)

        def svd(V: torch.Tensor) -> torch.Tensor:
            flat = transform.forward(V.reshape(-1, V.shape[-1]))
            return transform.decode(flat @ basis @ basis.T).reshape(V.shape)

        ours: list[StandIn] = [
            concepts_alone(bank),
            svd,
            lambda V: mean.expand(V.shape).contiguous(),
        ]
        return dict(zip(STAND_INS, ours, strict=True))

    def fewer(self, bank: Bank) -> dict[str, StandIn]:
        """Return what puts fewer of a bank's concepts in the place of V, by their number."""
        levels = [] if bank.tree is None else bank.tree.levels[1:]
        return {
            str(each.n): concepts_alone(replace(bank, W=each.W.numpy(), tree=None))
            for each in levels
        }

    def _basis(self, k: int) -> torch.Tensor:
        """Return the first k right singular vectors of the positions, float32 (channels, k)."""
        n = len(self._moments)
        last = (max(0, n - k), n - 1)  # the others take four times as long as these
        return torch.from_numpy(eigh(self._moments, subset_by_index=last)[1]).float()

    @cached_property
    def _moments(self) -> NDArray[np.float64]:
        """Second moments of the positions, (channels, channels)."""
        X = self.workspace.bank.transform.forward(self.positions)
        moments: NDArray[np.float64] = (X.T @ X).double().numpy()
        return moments


def true_classes(workspace: Workspace, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the network's classes of each image's labels, int64 (n, most), -1 where none is."""
    listing, class_of = workspace.listing, workspace.class_of_label
    labels = listing.labels[listing.places(image_ids)]
    found = [[class_of[label] for label in each if label in class_of] for each in labels]
    classes = np.full((len(found), max(map(len, found), default=0) or 1), -1, dtype=np.int64)
    for row, each in zip(classes, found, strict=True):
        row[: len(each)] = each
    return classes


def check_banks(banks: Mapping[str, NDArray[np.float32]], own: Bank, ks: Sequence[int]) -> None:
    """Refuse banks that could not be measured, or whose rows would be taken for others.

    Parameters
    ----------
    banks : mapping
        Names to W (channels after the transform, k).
    own : Bank
        The run's.
    ks : sequence of int
        The numbers of concepts measured.

    Raises
    ------
    UserError
        A bank has a name of `STAND_INS`, other channels, or a number of concepts not measured.
    """
    for name, W in banks.items():
        if name in STAND_INS:
            raise UserError(f"a bank cannot be called {name!r}: {', '.join(STAND_INS)} are ours")
        if np.ndim(W) != 2 or len(W) != len(own.W):
            raise UserError(
                f"the bank {name!r} is {np.shape(W)}; a W is (channels, k), with {len(own.W)}"
                " channels here"
            )
        if W.shape[1] not in ks:
            raise UserError(
                f"the bank {name!r} has {W.shape[1]} concepts, and none of {option('ks', ks)} is"
                " as many"
            )


def concepts_alone(bank: Bank) -> StandIn:
    """Return what puts a bank's concepts, and nothing else, in the place of V."""
    return lambda V: bank.decode(bank.strengths(V))
