"""Splits of an image's logit by concept.

Notation: V (n, h, w, channels), H (n, h, w, k), W channels × k, P = h · w positions, c the class
the split is of. With D the bank's decoder and L its linear part, r_p = v_p − D(W h_p):

- pool + linear:           logit_c = head_c(D(0)) + Σ_j mean_p(h_jp) ⟨head_c, L w_j⟩
                           + mean_p ⟨head_c, r_p⟩, exact
- linear, ReLU, pool:      logit_c = Σ_p g_cp (b_c + Σ_j h_jp ⟨head_c, L w_j⟩ + ⟨head_c, r_p⟩) / P,
                           g_cp = 1 where the image's own pre-activation is positive, exact
- any other head:          of concept j logit_c(D(W H)) − logit_c(D(W H without j)), ablation; the
                           rest, interactions and what W H leaves out, is the residual

Ablation runs the head once a concept. Of a whole dataset only the `N_ABLATED` concepts of an image
whose gradients promise most, |⟨∂ logit_c / ∂h_j, h_j⟩|, are taken out; of the others the gradient
is the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..models import Cut
from ..store import Bank
from .answers import Answers
from .scores import unit_logits

N_ABLATED = 8
"""Concepts of an image that `contributions` takes out one by one, where the head must run."""

WORTH = 4
"""Runs of the head that a gradient costs, about: of `N_ABLATED` + so many all are taken out."""


@dataclass(frozen=True)
class Split:
    """Logits of n images, each of one class, split by concept.

    Attributes
    ----------
    classes : Tensor
        int64 (n,).
    bias, residual : Tensor
        float32 (n,): the answer to nothing, and what no concept accounts for.
    contributions : Tensor
        float32 (n, k).
    is_exact : bool
        Whether the parts follow from the head's formula; ablated otherwise.
    """

    classes: torch.Tensor
    bias: torch.Tensor
    contributions: torch.Tensor
    residual: torch.Tensor
    is_exact: bool

    @property
    def logit(self) -> torch.Tensor:
        """The sum of all parts, float32 (n,): the network's own logit."""
        return self.bias + self.contributions.sum(1) + self.residual


@torch.inference_mode()
def split(
    cut: Cut,
    bank: Bank,
    V: torch.Tensor,
    H: torch.Tensor,
    classes: torch.Tensor,
    prefix: torch.Tensor | None = None,
) -> Split:
    """Split one logit per image into bias, a part of each concept, and a residual.

    Parameters
    ----------
    cut : Cut
        The network cut at the bank's layer.
    bank : Bank
        The concepts.
    V : Tensor
        float32 (n, h, w, channels), activations.
    H : Tensor
        float32 (n, h, w, k), their concepts.
    classes : Tensor
        int64 (n,), the class to split the logit of.
    prefix : Tensor, optional
        float32 (n, prefix tokens, channels).
    """
    answers = Answers(cut, bank, prefix)
    if cut.linear is None:
        bias = answers.logit(torch.zeros_like(H), classes)
        ablated = _ablations(answers, H, classes)
        logit = answers.head(V).gather(1, classes[:, None])[:, 0]
        return Split(classes, bias, ablated, logit - bias - ablated.sum(1), False)
    weight, bias = (part.to(V.device) for part in cut.linear)
    gates = _gates(cut, V, classes)
    nothing = bank.decode(H.new_zeros(1, bank.k))[0]
    rest = torch.einsum("nhwc,nc->nhw", V - bank.decode(H), weight[classes])
    return Split(
        classes,
        (bias[classes] + weight[classes] @ nothing) * gates.mean(dim=(1, 2)),
        _gated(cut, bank, H, gates, classes),
        (gates * rest).mean(dim=(1, 2)),
        True,
    )


@torch.inference_mode()
def contributions(
    cut: Cut,
    bank: Bank,
    V: torch.Tensor,
    H: torch.Tensor,
    logits: torch.Tensor,
    prefix: torch.Tensor | None = None,
) -> torch.Tensor:
    """Tell what each concept adds to the logit of the class an image was taken for.

    Parameters
    ----------
    cut, bank, V, H, prefix
        As in `split`.
    logits : Tensor
        float32 (n, classes), the network's answers.

    Returns
    -------
    Tensor
        float32 (n, k), in logits: the contributions of `split`, without the cost of the rest; of
        more than `N_ABLATED` + `WORTH` concepts before a head that must run, those that matter less
        to the image are estimates. NaN where the network has no classes.
    """
    if not cut.n_classes:
        return H.new_full((len(H), H.shape[-1]), float("nan"))
    top = logits.argmax(1)
    if cut.linear is None:
        return _promising(Answers(cut, bank, prefix), H, top)
    return _gated(cut, bank, H, _gates(cut, V, top), top)


def _gates(cut: Cut, V: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return which positions' pre-activations reach the logit, float32 (n, h, w), 1 or 0."""
    assert cut.linear is not None
    if cut.head_kind == "pool_linear":
        return V.new_ones(()).expand(V.shape[:3])
    weight, bias = cut.linear
    before = torch.einsum("nhwc,nc->nhw", V, weight[classes]) + bias[classes][:, None, None]
    return (before > 0).float()


def _gated(
    cut: Cut, bank: Bank, H: torch.Tensor, gates: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    assert cut.linear is not None
    unit = unit_logits(cut.linear[0], bank.transform, torch.from_numpy(bank.W))[classes]
    return torch.einsum("nhwk,nhw->nk", H, gates) / (H.shape[1] * H.shape[2]) * unit


def _ablations(answers: Answers, H: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    everything = torch.arange(H.shape[-1]).expand(len(H), -1)
    return _ablated(answers, H, classes, everything, H.new_zeros(len(H), H.shape[-1]))


def _promising(answers: Answers, H: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Ablate the concepts of each image that its gradient promises most of; estimate the others."""
    gradient = None
    if H.shape[-1] > N_ABLATED + WORTH:
        gradient = answers.gradient(H, classes)
    if gradient is None:
        return _ablations(answers, H, classes)
    estimate = (gradient * H).sum(dim=(1, 2))
    order = estimate.abs().argsort(dim=1, descending=True, stable=True)
    return _ablated(answers, H, classes, order[:, :N_ABLATED], estimate)


def _ablated(
    answers: Answers,
    H: torch.Tensor,
    classes: torch.Tensor,
    concepts: torch.Tensor,
    others: torch.Tensor,
) -> torch.Tensor:
    """Return what the logits lose with each of `concepts`, int64 (n, m), in place of `others`."""
    whole, drops = answers.logit(H, classes), others.clone()
    for each in concepts.T:
        lost = whole - answers.logit(without(H, each), classes)
        drops.scatter_(1, each[:, None], lost[:, None])
    return drops


def without(H: torch.Tensor, concept: int | torch.Tensor) -> torch.Tensor:
    """Return strengths H (n, h, w, k) with one concept absent, or one of each image, int64 (n,)."""
    less = H.clone()
    if isinstance(concept, int):
        less[..., concept] = 0
    else:
        less[torch.arange(len(H)), ..., concept] = 0
    return less
