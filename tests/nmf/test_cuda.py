"""On a graphics card the same comes out as on the processor, up to rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import nmf, open_run
from pipeline.images import sides
from pipeline.models import cut, load_network
from pipeline.models.runtime import compile_cut
from pipeline.nmf import data
from pipeline.sample import write_sample
from tests.calling import call

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def V() -> torch.Tensor:
    """Sixteen concepts in 96 channels, under noise."""
    draw = torch.Generator().manual_seed(0)
    W = torch.rand(96, 16, generator=draw) * (torch.rand(96, 16, generator=draw) < 0.2)
    H = torch.rand(20_000, 16, generator=draw) * (torch.rand(20_000, 16, generator=draw) < 0.3)
    return (H @ W.T + 0.05 * torch.randn(20_000, 96, generator=draw)).clamp_min(0)


@pytest.mark.parametrize("penalty", [nmf.Penalty(), nmf.Penalty(l1_H=0.05)])
def test_fits_agree(V: torch.Tensor, penalty: nmf.Penalty) -> None:
    fits = [
        nmf.fit(nmf.ArrayBlocks(V), V[::4].to(device), 16, penalty=penalty)
        for device in ("cpu", "cuda")
    ]
    assert fits[1].error == pytest.approx(fits[0].error, rel=1e-3)
    assert float(nmf.match(fits[0].W, fits[1].W)[1].min()) > 0.999
    H = [nmf.encode(V.to(device), fits[0].W.to(device)).cpu() for device in ("cpu", "cuda")]
    assert float((H[0] - H[1]).norm() / H[0].norm()) < 1e-3


@pytest.mark.parametrize("n", [1, 7, 20, 64])
def test_arrays_arrive_whole(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts smaller than, as large as, and not dividing the array; buffers are used again."""
    monkeypatch.setattr(data, "PINNED", 7 * 96)
    V = torch.rand(n, 96, generator=torch.Generator().manual_seed(n))
    assert torch.equal(data.to_device(V, "cuda").cpu(), V)


def test_the_estimator_agrees(V: torch.Tensor) -> None:
    models = [nmf.NMF(16, random_state=0, device=device) for device in ("cpu", "cuda")]
    H = [torch.from_numpy(model.fit_transform(V.numpy())) for model in models]
    errors = [model.reconstruction_err_ for model in models]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    permutation, cosines = nmf.match(H[0], H[1])
    assert float(cosines.min()) > 0.999
    assert sorted(permutation.tolist()) == list(range(16))


def test_the_same_k_is_chosen(V: torch.Tensor) -> None:
    owner = np.arange(len(V)) // 100
    choices = [
        nmf.choose_k(V[:8_000].to(d), owner[:8_000], (4, 8, 16, 32)) for d in ("cpu", "cuda")
    ]
    assert [choice.k for choice in choices] == [16, 16]
    assert not choices[1].flagged


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_networks_agree(model: str, precision: str) -> None:
    layer = cut(load_network(model, Path("random")), "auto")
    shape = (8, 3, *sides(layer.network.image_size))
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    expected = compile_cut(layer, precision="fp32")(images)
    runner = compile_cut(layer, device="cuda", precision=precision)  # type: ignore[arg-type]
    found = runner(images)
    for name in ("V", "logits"):
        a, b = getattr(expected, name).float(), getattr(found, name).float().cpu()
        assert float((a - b).norm() / a.norm()) < (1e-4 if precision == "fp32" else 0.03), name


def test_a_whole_run(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=60, size=96)
    found = []
    for device in ("cpu", "cuda"):
        run = tmp_path / device
        argv = [f"--dataset={tmp_path / 'sample' / 'images'}", "--model=sample", f"--run={run}"]
        argv += [f"--device={device}", "--k=6", "--precision=fp32"]
        assert call("discover", argv) == 0
        found.append(open_run(run).table("concepts"))
    a, b = (pd.DataFrame(frame).sort_values("concept_id") for frame in found)
    np.testing.assert_allclose(a["energy"], b["energy"], rtol=0.01, atol=1e-3)
    np.testing.assert_allclose(a["coverage"], b["coverage"], atol=0.05)
