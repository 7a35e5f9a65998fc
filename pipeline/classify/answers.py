"""The network's answer to concepts: its head as a function of their strengths H.

Notation: H (n, h, w, k), W channels × k, D the bank's decoder with linear part L, A and b the
head's only linear map where it has one, u_cj = ⟨A_c, L w_j⟩, o_c = b_c + ⟨A_c, D(0)⟩. Then

    pool, linear         logit_c = o_c + Σ_j u_cj mean_p h_jp
    linear, ReLU, pool   logit_c = mean_p relu(o_c + Σ_j u_cj h_jp)
    any other head       the head itself on D(W H)

The first two need k numbers per position instead of all channels: taking concepts out and putting
them in, thousands of times, costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..models import Cut
from ..models.link import Link
from ..store import Bank

BATCH = 32
"""Images that go through a head at once."""

GRADIENTS = 8
"""Images whose gradients are found at once: passes keep much for the way back. From ResNet-50's
layer1 on, at 448 pixels, 32 took 6.6 GB and these take 2.1, a batch through the head 1.6."""

POSITIONS = 1_024
"""Positions that meet all classes at once: 4 MB of numbers, which stay in the cache."""


@dataclass(frozen=True)
class Answers:
    """What the network answers to concepts.

    Parameters
    ----------
    cut : Cut
        The network cut at the bank's layer.
    bank : Bank
        The concepts.
    prefix : Tensor or None
        float32 (m, prefix tokens, channels): the tokens that stand beside the positions of m
        images, for heads that need them.
    """

    cut: Cut
    bank: Bank
    prefix: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.cut.check_has_classes()

    def of(self, rows: torch.Tensor) -> Answers:
        """Return the same for some of the images, rows int64 (n,) or bool (m,) of `prefix`."""
        return self if self.prefix is None else replace(self, prefix=self.prefix[rows])

    @property
    def link(self) -> Link:
        """How logits become probabilities."""
        return self.cut.link

    @torch.inference_mode()
    def logits(self, H: torch.Tensor) -> torch.Tensor:
        """Answer to strengths.

        Parameters
        ----------
        H : Tensor
            float32 (n, h, w, k). With `prefix`, n is m or a multiple r m of it: r versions of
            every image, version by version.

        Returns
        -------
        Tensor
            float32 (n, classes).
        """
        if self.cut.head_kind == "pool_linear":
            unit, nothing = self._linear
            return H.mean(dim=(1, 2)) @ unit.T + nothing
        if self.cut.head_kind == "linear_relu_pool":
            return self._pooled(H)
        return self.head(self.bank.decode(H))

    @torch.inference_mode()
    def logit(self, H: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Answer to strengths H (n, h, w, k) for one class per image, int64 (n,): float32 (n,)."""
        if self.cut.head_kind == "general":
            return self.logits(H).gather(1, classes[:, None])[:, 0]
        unit, nothing = self._linear
        if self.cut.head_kind == "pool_linear":
            return (H.mean(dim=(1, 2)) * unit[classes]).sum(1) + nothing[classes]
        before = torch.einsum("nhwk,nk->nhw", H, unit[classes]) + nothing[classes][:, None, None]
        return before.relu().mean(dim=(1, 2))

    @torch.inference_mode()
    def head(self, V: torch.Tensor) -> torch.Tensor:
        """Answer to activations V, float32 (n, h, w, channels), in batches; n as in `logits`."""
        tokens = self.prefix
        if tokens is not None and len(tokens) != len(V):
            tokens = tokens.repeat(len(V) // len(tokens), 1, 1)
        parts = [
            self.cut.head(V[i : i + BATCH], None if tokens is None else tokens[i : i + BATCH])
            for i in range(0, len(V), BATCH)
        ]
        return torch.cat(parts)

    @torch.inference_mode(False)
    def gradient(self, H: torch.Tensor, classes: torch.Tensor) -> torch.Tensor | None:
        """Return how one logit per image changes with its strengths.

        Parameters
        ----------
        H : Tensor
            float32 (n, h, w, k).
        classes : Tensor
            int64 (n,).

        Returns
        -------
        Tensor or None
            float32 (n, h, w, k); None of a head that cannot be differentiated.
        """
        parts = []
        for i in range(0, len(H), GRADIENTS):
            some = slice(i, i + GRADIENTS)
            prefix = None if self.prefix is None else self.prefix[some].clone()
            part = self._gradient(H[some].clone(), classes[some, None].clone(), prefix)
            if part is None:
                return None
            parts.append(part)
        return torch.cat(parts) if parts else torch.zeros_like(H)

    def _gradient(
        self, H: torch.Tensor, classes: torch.Tensor, prefix: torch.Tensor | None
    ) -> torch.Tensor | None:
        H.requires_grad_()
        try:
            with torch.enable_grad():
                logits = self.cut.head(self.bank.decode(H), prefix)
                if not logits.requires_grad:
                    return None
                (found,) = torch.autograd.grad(logits.gather(1, classes).sum(), H)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # what a head that writes over its own values, or leaves torch, meets;
            return None  # if anything else is wrong with it, running it says so
        return found

    def remove(self, V: torch.Tensor, H: torch.Tensor, concepts: list[int]) -> torch.Tensor:
        """Take concepts out of real activations and leave all else, V − Σ_j h_j L w_j.

        Parameters
        ----------
        V : Tensor
            float32 (n, h, w, channels).
        H : Tensor
            float32 (n, h, w, k), their concepts.
        concepts : list of int
            Which to take out.
        """
        W = torch.from_numpy(self.bank.W[:, concepts]).to(H.device)
        return V - self.bank.transform.linear(H[..., concepts] @ W.T)

    def _pooled(self, H: torch.Tensor) -> torch.Tensor:
        """Answer by linear map, ReLU and pool, a few positions at once: all classes of each."""
        unit, nothing = self._linear
        n_positions = H.shape[1] * H.shape[2]
        parts = []
        for part in H.split(max(1, POSITIONS // n_positions)):
            before = torch.addmm(nothing, part.reshape(-1, H.shape[3]), unit.T).relu_()
            parts.append(before.reshape(len(part), n_positions, len(nothing)).mean(1))
        return torch.cat(parts)

    @property
    def units(self) -> torch.Tensor:
        """What a unit of each concept adds to each logit of a linear head: u (classes, k)."""
        return self._linear[0]

    @cached_property
    def _linear(self) -> tuple[torch.Tensor, torch.Tensor]:
        """u (classes, k) and o (classes,)."""
        assert self.cut.linear is not None
        weight, bias = self.cut.linear
        W = torch.from_numpy(self.bank.W).to(weight.device)
        transform = self.bank.transform
        zero = transform.decode(torch.zeros(1, len(W), device=weight.device))
        return weight @ transform.linear(W.T).T, (zero @ weight.T)[0] + bias
