"""Several cuts of one network, whose layers come out of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from .cut import Cut, Forward, body_of


class Together:
    """Cuts of one network at one or more layers.

    Attributes
    ----------
    cuts : tuple of Cut
        At least one; all of the same `Network`.
    body : GraphModule
        From uint8 images to what each layer gives, every layer once, and the logits.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts = tuple(cuts)
        first = self.cuts[0]
        self._nodes = list(dict.fromkeys(node for cut in self.cuts for node in cut.nodes))
        self.body: fx.GraphModule = first.body
        if len(self.cuts) > 1:
            self.body = body_of(first.network, self._nodes)

    @property
    def first(self) -> Cut:
        """The first cut; the network, and so its logits, are the same of all."""
        return self.cuts[0]

    def arrange(self, outputs: Sequence[torch.Tensor]) -> tuple[Forward, ...]:
        """Turn what `body` returns into what a forward pass of each cut gives."""
        n = len(self._nodes)
        found, logits = dict(zip(self._nodes, outputs[:n], strict=True)), outputs[n:]
        return tuple(
            cut.arrange([*map(found.__getitem__, cut.nodes), *logits]) for cut in self.cuts
        )
