"""Fast ways to run a network: what is chosen and why, and how far it may stray from float32."""

from __future__ import annotations

import csv
import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.errors import UserError
from pipeline.models import Cut, Network, cut, load_network
from pipeline.models.comparison import attempt
from pipeline.models.runtime import Arithmetic, compile_cut

ASSETS = Path(os.environ.get("CONCORDANCE_ASSETS", "../shared/assets"))
REAL = pytest.mark.skipif(
    not (ASSETS / "weights").is_dir(), reason=f"no real weights in {ASSETS}; set CONCORDANCE_ASSETS"
)
BF16 = 2.0**-8
"""Relative step of bfloat16."""


class _Small(nn.Module):
    """Convolutions with and without batch normalisation, shared and skipped; four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.after = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.stem(images)))
        maps = maps + torch.relu(self.after(self.twice(torch.relu(self.twice(maps)))))
        logits: torch.Tensor = self.head(maps.mean((2, 3)))
        return logits


@functools.cache
def _small(scale: float = 1.0) -> Cut:
    torch.manual_seed(0)
    module = _Small().eval().requires_grad_(False)
    for norm in (module.norm, module.after):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
    module.head.weight.mul_(scale)
    module.head.bias.mul_(scale)
    names = ("a", "b", "c", "d")
    mean_std = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return cut(Network("small", module, 32, *mean_std, names, "", ""), "auto", aux_layers=["norm"])


def _images(n: int, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    return (nn.functional.interpolate(coarse, size=size) * 255).to(torch.uint8)


@functools.cache
def _real_images(n: int) -> torch.Tensor:
    files = _real_files()
    return _read(files[:: len(files) // n][:n])


def _real_files() -> list[Path]:
    files = sorted((ASSETS / "images" / "imagenette224").rglob("*.*"))
    return [file for file in files if file.suffix.lower() in (".jpg", ".jpeg", ".png")]


def _read(files: list[Path]) -> torch.Tensor:
    pixels = [np.array(Image.open(file).convert("RGB")) for file in files]
    return torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in pixels])


def _labelled_images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images drawn at random, and their classes."""
    with (ASSETS / "images" / "imagenette224_classes.csv").open(encoding="utf-8") as file:
        class_of = {row["label"]: int(row["class_id"]) for row in csv.DictReader(file)}
    files = _real_files()
    drawn = [files[index] for index in np.random.default_rng(0).permutation(len(files))[:n]]
    return _read(drawn), torch.tensor([class_of[file.parent.name] for file in drawn])


def test_fp32_is_the_network_itself() -> None:
    made = _small()
    runner = compile_cut(made, precision="fp32", batch_size=8)
    assert (runner.precision, runner.compiled, runner.how) == ("fp32", False, "float32, exact")
    images = _images(8)
    assert torch.equal(runner(images).logits, made.forward(images).logits)
    assert torch.equal(runner(images).V, made.forward(images).V)
    assert torch.equal(runner(images).aux["norm"], made.forward(images).aux["norm"])


def test_bf16_differs_by_rounding_only() -> None:
    made = _small()
    before = {key: each.clone() for key, each in made.network.module.state_dict().items()}
    runner = compile_cut(made, precision="bf16", compiled=False)
    exact, rough = made.forward(_images(20)), runner(_images(20))
    assert (runner.precision, runner.compiled) == ("bf16", False)
    assert rough.V.dtype == rough.aux["norm"].dtype == torch.bfloat16
    assert rough.logits.dtype == torch.float32
    for ours, theirs in ((rough.V, exact.V), (rough.aux["norm"], exact.aux["norm"])):
        assert 0 < (ours.float() - theirs).norm() / theirs.norm() < 2 * BF16
    after = made.network.module.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before), "the network is untouched"


def test_logits_are_not_rounded_to_16_bits() -> None:
    """Rounded logits tie, and ties change the top class."""
    logits = compile_cut(_small(), precision="bf16", compiled=False)(_images(8)).logits
    assert not torch.equal(logits, logits.bfloat16().float())


def test_auxiliary_layers_before_batch_normalisation_stay_what_they_are() -> None:
    network = _small().network
    made = cut(network, "auto", aux_layers=["stem"])
    exact = made.forward(_images(4)).aux["stem"]
    rough = compile_cut(made, precision="bf16", compiled=False)(_images(4)).aux["stem"]
    assert (rough.float() - exact).norm() / exact.norm() < 2 * BF16


def test_compiled_takes_batches_of_any_size() -> None:
    made = _small()
    runner = compile_cut(made, precision="bf16", compiled=True, batch_size=8)
    assert runner.compiled, runner.how
    assert runner.how.startswith("bfloat16 as asked for; compiled in ")
    images = _images(8)
    whole = runner(images)
    exact = made.forward(images)
    assert (whole.V.float() - exact.V).norm() / exact.V.norm() < 2 * BF16
    for n in (1, 5):
        part = runner(images[:n])
        assert part.V.shape[0] == part.logits.shape[0] == part.aux["norm"].shape[0] == n
        assert torch.equal(part.V, whole.V[:n])
        assert torch.equal(part.logits, whole.logits[:n])


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    runner = compile_cut(_small(), precision="bf16", compiled=True)
    assert not runner.compiled
    assert runner.how == (
        "bfloat16 as asked for; not compiled: there is no C++ compiler 'no-such-compiler'"
    )
    assert runner(_images(3)).logits.shape == (3, 4)


def test_a_compiler_that_fails_is_survived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken-compiler"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(broken)))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    made = cut(_small(2.0).network, "auto")
    runner = compile_cut(made, precision="bf16", compiled=True, batch_size=3)
    assert not runner.compiled
    assert runner.how.startswith("bfloat16 as asked for; not compiled: the compiler failed (")
    assert runner(_images(3)).logits.shape == (3, 4)


def test_small_jobs_are_exact() -> None:
    runner = compile_cut(_small(), n_images=20, probe_images=_images(20))
    assert runner.precision == "fp32"
    assert runner.how == "float32, exact; a job of 20 images is too small to gain from less"
    asked = compile_cut(_small(), precision="bf16", n_images=20)
    assert asked.how == "bfloat16 as asked for; not compiled for 20 images"


@pytest.mark.parametrize("probe", [None, _images(5)])
def test_without_enough_images_to_check_it_is_exact(probe: torch.Tensor | None) -> None:
    runner = compile_cut(_small(), n_images=100_000, probe_images=probe)
    assert runner.precision == "fp32"
    assert runner.how == (
        "float32, exact; there are too few images to check anything faster against it"
    )


def test_auto_refuses_what_changes_the_answers() -> None:
    """A head that amplifies the last bits: bfloat16 finds other classes."""
    made = _small()
    module = _Small().eval().requires_grad_(False)
    module.load_state_dict(made.network.module.state_dict())
    with torch.no_grad():
        maps = made.forward(_images(64)).V.mean((1, 2))
        _, _, vh = torch.linalg.svd(maps - maps.mean(0), full_matrices=False)
        module.head.weight.copy_(torch.cat([vh[-2:], -vh[-2:]]) * 1e4)
        module.head.bias.copy_(-module.head.weight @ maps.mean(0))
    given = made.network
    network = Network("x", module, 32, given.mean, given.std, given.classes, "", "")
    runner = compile_cut(cut(network, "auto"), n_images=1000, probe_images=_images(64))
    assert runner.precision in ("fp32", "fp32-folded")
    assert "in bfloat16 the top class is the same on" in runner.how


def test_auto_is_never_without_a_reason() -> None:
    runner = compile_cut(_small(), n_images=300, probe_images=_images(64))
    assert any(word in runner.how for word in ("times as fast", "not faster", "the same on"))


def test_folded_float32_rounds_otherwise_and_no_more() -> None:
    made = _small()
    folded = compile_cut(made, precision="fp32-folded", compiled=False)(_images(8))
    exact = made.forward(_images(8))
    assert folded.V.dtype == torch.float32
    assert (folded.V - exact.V).norm() / exact.V.norm() < 1e-6
    assert torch.equal(folded.logits.argmax(1), exact.logits.argmax(1))


@pytest.mark.parametrize("precision", ["bf16", "fp32-folded"])
def test_a_choice_can_be_repeated(precision: Arithmetic) -> None:
    """A resumed job runs its later images exactly as its earlier ones."""
    first = compile_cut(_small(), precision=precision, compiled=False)
    again = compile_cut(
        _small(), precision=first.precision, compiled=first.compiled, n_images=100_000
    )
    assert torch.equal(first(_images(4)).V, again(_images(4)).V)


def test_unknown_precision_and_device() -> None:
    with pytest.raises(UserError) as caught:
        compile_cut(_small(), precision="fp8")  # type: ignore[arg-type]
    assert str(caught.value) == "there is no precision='fp8': it is auto or fp32 or bf16"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device here: pass device='cpu'"):
            compile_cut(_small(), device="cuda")


def test_prefix_tokens_are_kept_in_bf16() -> None:
    made = cut(load_network("vit_b_32", Path("random"), image_size=64), "auto")
    exact = made.forward(_images(2, 64))
    rough = compile_cut(made, precision="bf16", compiled=False)(_images(2, 64))
    assert exact.prefix is not None
    assert rough.prefix is not None
    assert rough.prefix.shape == (2, 1, 768)
    assert (rough.prefix.float() - exact.prefix).norm() / exact.prefix.norm() < 0.05


@pytest.mark.slow
@REAL
@pytest.mark.parametrize(("name", "error"), [("squeezenet1_1", 0.04), ("mobilenet_v2", 0.12)])
def test_bf16_finds_the_same_class_on_real_images(name: str, error: float) -> None:
    made = cut(load_network(name, ASSETS / "weights" / f"{name}.safetensors"), "auto")
    images = _real_images(60)
    exact = compile_cut(made, precision="fp32", batch_size=20)
    rough = compile_cut(made, precision="bf16", compiled=False, batch_size=20)
    same = 0
    for batch in torch.split(images, 20):
        a, b = exact(batch), rough(batch)
        same += int((a.logits.argmax(1) == b.logits.argmax(1)).sum())
        assert (a.V - b.V.float()).norm() / a.V.norm() < error
    assert same >= 57


@REAL
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_what_auto_chooses_is_as_accurate_on_real_images(name: str) -> None:
    """On images and labels that the choice was not made on."""
    made = cut(load_network(name, ASSETS / "weights" / f"{name}.safetensors"), "auto")
    images, classes = _labelled_images(856)
    probe, images, classes = images[:256], images[256:], classes[256:]
    given = {"probe_images": probe, "n_images": 100_000, "batch_size": 20}
    chosen = compile_cut(made, precision="auto", compiled=False, **given)  # type: ignore[arg-type]
    exact = compile_cut(made, precision="fp32", batch_size=20)
    assert chosen.precision != "fp32", chosen.how
    expected, found = (attempt(runner, images)[0] for runner in (exact, chosen))
    same = float((expected == found).double().mean())
    before, after = (float((each == classes).double().mean()) for each in (expected, found))
    print(f"{name}: {chosen.how}; same {same:.1%}, accuracy {before:.1%} and {after:.1%}")
    assert same >= 0.98
    assert abs(before - after) <= 0.005
