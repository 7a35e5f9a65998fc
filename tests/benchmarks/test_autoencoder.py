"""The autoencoder that ours are compared with descends as its equations say, and learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.autoencoder import AUX_ACTIVE, AUX_WEIGHT, Autoencoder, train


@pytest.mark.parametrize("n_dead", [0, 12])
def test_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch, n_dead: int) -> None:
    V = torch.rand(300, 20, generator=torch.Generator().manual_seed(0)) ** 2
    model = Autoencoder(V, 30, 4, 0)
    D, E, e, b = (each.clone().requires_grad_() for each in (model.D, model.E, model.e, model.b))
    V = V[:5]
    before = (V - b) @ E + e
    strongest, which = before.topk(4, dim=1)
    z = torch.zeros_like(before).scatter(1, which, strongest.relu())
    error = z @ D - (V - b)
    loss = error.square().sum() / len(V)
    model.unused[:n_dead] = 10**6
    monkeypatch.setattr(model, "_epoch", 10**5)
    found: list[Tensor] = []
    monkeypatch.setattr(model, "_adam", lambda gradients, rate: found.extend(gradients))
    model.step(V, 0.0)
    dead = model.unused > 10**5  # but for those that the batch uses
    assert bool(dead.any()) == bool(n_dead)
    if n_dead:
        m = min(AUX_ACTIVE, int(dead.sum()))
        chosen, at = before[:, dead].topk(m, dim=1)
        rows = torch.nonzero(dead).flatten()[at]
        aux = torch.zeros_like(before).scatter(1, rows, chosen.relu()) @ D
        left = error.detach()  # what is left is given to them as it is
        loss = loss + AUX_WEIGHT * (left + aux).square().sum() / len(V)
    of_b = torch.autograd.grad(error.square().sum() / len(V), b, retain_graph=True)[0]
    loss.backward()
    assert len(found) == 4
    for ours, theirs in zip(found[:3], (D, E, e), strict=True):
        assert theirs.grad is not None
        assert torch.allclose(ours, theirs.grad, atol=1e-6)
    if not n_dead:
        assert torch.allclose(found[3], of_b, atol=1e-6)


def test_it_learns_what_was_planted() -> None:
    draw = torch.Generator().manual_seed(1)
    D = torch.rand(24, 32, generator=draw).pow(6)
    H = torch.zeros(4_096, 24).scatter_(
        1, torch.rand(4_096, 24, generator=draw).argsort(1)[:, :3], 1.0
    )
    V = H @ D
    epochs = list(train(V, 24, 3, 12))
    assert [each.n for each in epochs] == [*range(1, 13)]
    assert epochs[-1].seconds > 0
    assert epochs[-1].model.explained(V) > 0.8
