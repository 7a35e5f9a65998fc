"""Splits of an image's logit by concept.

Notation: V (n, h, w, channels), H (n, h, w, k), W channels × k, P = h · w positions, c the class
the image was taken for. With D the bank's decoder and L its linear part (exact where said so):

- pool + linear:           logit_c = head_c(D(0)) + Σ_j mean_p(h_jp) ⟨head_c, L w_j⟩ + residual_c
- linear, ReLU, pool:      logit_c = Σ_p g_cp (b_c + Σ_j h_jp ⟨head_c, L w_j⟩ + ⟨head_c, r_p⟩) / P,
                           g_cp = 1 where the image's own pre-activation is positive
- any other head:          logit_c(D(W H)) − logit_c(D(W H without j)), ablation; does not sum up
"""

from __future__ import annotations

import torch

from pipeline.classify.scores import evidence
from pipeline.models import Cut
from pipeline.store import Bank

BATCH = 32


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
    cut : Cut
        The network cut at the bank's layer.
    bank : Bank
        The concepts.
    V : Tensor
        float32 (n, h, w, channels), activations.
    H : Tensor
        float32 (n, h, w, k), their concepts.
    logits : Tensor
        float32 (n, classes), the network's answers.
    prefix : Tensor, optional
        float32 (n, prefix tokens, channels).

    Returns
    -------
    Tensor
        float32 (n, k), in logits.
    """
    top = logits.argmax(1)
    if cut.head_kind == "general":
        return _ablations(cut, bank, H, top, prefix)
    assert cut.linear is not None
    weight, bias = cut.linear
    unit = evidence(cut, bank.transform, torch.from_numpy(bank.W))[top]
    if cut.head_kind == "pool_linear":
        return H.mean(dim=(1, 2)) * unit
    before = torch.einsum("nhwc,nc->nhw", V, weight[top]) + bias[top][:, None, None]
    return (H * (before > 0)[..., None]).mean(dim=(1, 2)) * unit


def _ablations(
    cut: Cut, bank: Bank, H: torch.Tensor, top: torch.Tensor, prefix: torch.Tensor | None
) -> torch.Tensor:
    whole = _top_logits(cut, bank, H, top, prefix)
    drops = torch.zeros(len(H), bank.k)
    for concept in range(bank.k):
        without = H.clone()
        without[..., concept] = 0
        drops[:, concept] = whole - _top_logits(cut, bank, without, top, prefix)
    return drops


def _top_logits(
    cut: Cut, bank: Bank, H: torch.Tensor, top: torch.Tensor, prefix: torch.Tensor | None
) -> torch.Tensor:
    parts = []
    for start in range(0, len(H), BATCH):
        batch = slice(start, start + BATCH)
        tokens = None if prefix is None else prefix[batch]
        logits = cut.head(bank.decode(H[batch]), tokens)
        parts.append(logits.gather(1, top[batch][:, None])[:, 0])
    return torch.cat(parts)
