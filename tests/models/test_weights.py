"""Loading networks: by name, from files of every kind, and what is said when it cannot be done."""

from __future__ import annotations

import os
import pickle
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.errors import UserError
from pipeline.models import Network, choose_layer, list_models, load_network
from pipeline.models.architecture import fit_positions, trained_size
from pipeline.models.checkpoints import read_state
from pipeline.system.checksums import sha256

ASSETS = Path(os.environ.get("CONCORDANCE_ASSETS", "../shared/assets"))
REAL = pytest.mark.skipif(
    not (ASSETS / "weights").is_dir(), reason=f"no real weights in {ASSETS}; set CONCORDANCE_ASSETS"
)
RANDOM = Path("random")
NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return dict(torchvision.models.get_model(NAME).state_dict())


def _same(network: Network, state: dict[str, torch.Tensor]) -> bool:
    own = network.module.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


def test_a_network_is_frozen_and_knows_its_input() -> None:
    network = load_network(NAME, RANDOM)
    assert not network.module.training
    assert not any(each.requires_grad for each in network.module.parameters())
    assert {each.dtype for each in network.module.parameters()} == {torch.float32}
    assert (network.image_size, network.mean) == (224, (0.485, 0.456, 0.406))
    assert network.std == (0.229, 0.224, 0.225)
    assert len(network.classes) == 1000
    assert network.classes[:2] == ("tench", "goldfish")


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (load_network(NAME, RANDOM, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert first.weights_source == "random (seed 0)"


def test_random_logits_differ_between_classes_even_where_the_last_layer_starts_at_zero() -> None:
    network = load_network("vit_b_32", RANDOM, image_size=64)
    with torch.no_grad():
        assert network.module(torch.ones(1, 3, 64, 64)).std() > 0


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_reads_what_was_saved(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str) -> None:
    file = tmp_path / f"mine{suffix}"
    save: Callable[..., None] = save_file if suffix == ".safetensors" else torch.save
    save(state, file)
    network = load_network(NAME, file)
    assert _same(network, state)
    assert network.weights_source == file.name
    assert network.weights_sha256 == sha256(file)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_reads_a_training_checkpoint(
    tmp_path: Path, state: dict[str, torch.Tensor], wrapper: str
) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({wrapper: {f"module.{key}": state[key] for key in state}, "epoch": 3}, file)
    assert _same(load_network(NAME, file), state)


def test_half_precision_becomes_float32(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "half.safetensors"
    save_file({key: v.half() if v.is_floating_point() else v for key, v in state.items()}, file)
    own = load_network(NAME, file).module.state_dict()
    assert torch.equal(own["conv1.0.weight"], state["conv1.0.weight"].half().float())


def test_the_file_decides_the_number_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "seven.pt"
    torch.save(torchvision.models.get_model(NAME, num_classes=7).state_dict(), file)
    network = load_network(NAME, file)
    assert network.classes == tuple(f"class {i}" for i in range(7))


def test_counters_of_batch_normalisation_may_be_missing(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    file = tmp_path / "plain.pt"
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, file)
    assert _same(load_network(NAME, file), state)


@pytest.mark.parametrize("name", ["mnasnet0_5", "googlenet"])
def test_architectures_with_a_loader_of_their_own(tmp_path: Path, name: str) -> None:
    network = load_network(name, RANDOM)
    file = tmp_path / "weights.safetensors"
    save_file(network.module.state_dict(), file)
    assert _same(load_network(name, file), network.module.state_dict())


def test_old_densenet_names(tmp_path: Path) -> None:
    network = load_network("densenet121", RANDOM)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): each
        for key, each in network.module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    file = tmp_path / "densenet121-a639ec97.pth"
    torch.save(old, file)
    assert _same(load_network("densenet121", file), network.module.state_dict())


def test_position_embeddings_are_fitted_to_another_size() -> None:
    state = {
        "encoder.pos_embedding": torch.arange(5.0).view(1, 5, 1).repeat(1, 1, 8),
        "conv_proj.weight": torch.zeros(8, 3, 16, 16),
    }
    assert trained_size("vit_b_16", state) == 32
    fitted = fit_positions("vit_b_16", state, 64)["encoder.pos_embedding"]
    assert fitted.shape == (1, 17, 8)
    corners = fitted[0, [0, 1, 4, 13, 16], 0]
    assert torch.allclose(corners, torch.arange(5.0))
    assert fit_positions("vit_b_16", state, 32) is state


def test_torchvisions_own_download_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]
) -> None:
    """torchvision finds a file of its own name in its cache and need not fetch it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_model_weights(NAME).DEFAULT
    cached = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    cached.parent.mkdir(parents=True)
    torch.save(state, cached)
    network = load_network(NAME)
    assert _same(network, state)
    assert network.weights_source == "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"
    assert network.weights_sha256 == sha256(cached)


def test_without_a_network_one_sentence_says_what_to_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # the discard port: nothing listens
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError) as caught:
        load_network("resnet18")
    assert re.fullmatch(
        r"cannot download the torchvision weights ResNet18_Weights\.IMAGENET1K_V1 of resnet18"
        r" \(<urlopen error .*refused>\): pass a file of them as weights",
        str(caught.value),
    )


class _Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    marker, file = tmp_path / "ran", tmp_path / f"evil{suffix}"
    torch.save({"conv1.0.weight": _Payload(marker)}, file)
    with pytest.raises(UserError) as caught:
        load_network(NAME, file)
    assert str(caught.value) == (
        f"weights file {file} is not a plain set of tensors (it holds a posix.system) and was not"
        " opened, since loading it could run code hidden in it: save it again as .safetensors, or"
        " as torch.save(model.state_dict(), file)"
    )
    assert not marker.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "evil.pt"
    file.write_bytes(pickle.dumps({"weight": _Payload(marker)}))
    with pytest.raises(UserError, match="was not opened"):
        load_network(NAME, file)
    assert not marker.exists()
    pickle.loads(file.read_bytes())
    assert marker.exists(), "the payload would have worked"


INSTEAD = (
    "pass the model they were made for, other weights, or a function of yours that makes the"
    " network (model=file.py:function)"
)


def test_weights_of_another_network(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "other.safetensors"
    save_file(state, file)
    with pytest.raises(UserError) as caught:
        load_network("shufflenet_v2_x1_0", file)
    text = str(caught.value)
    assert text.startswith(f"the weights in {file} do not fit shufflenet_v2_x1_0: ")
    assert "stage2.0.branch1.2.weight is 24×24×1×1 in the file and 58×24×1×1 in the network" in text
    assert text.endswith(f"…); {INSTEAD}")


def test_missing_and_unknown_weights(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "renamed.pt"
    changed = {key: each for key, each in state.items() if key != "fc.bias"}
    torch.save(changed | {"extra": torch.zeros(1)}, file)
    with pytest.raises(UserError) as caught:
        load_network(NAME, file)
    assert str(caught.value) == (
        f"the weights in {file} do not fit {NAME}: 1 missing from the file (fc.bias);"
        f" 1 unknown to the network (extra); {INSTEAD}"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.pt", None, "there is no weights file {}: see weights"),
        (
            "w.npz",
            b"x",
            "weights file {} ends in '.npz': pass a .safetensors file, or one of .pt, ",
        ),
        ("w.safetensors", b"\x08", "weights file {} cannot be read: "),
        ("w.pt", b"", "weights file {} cannot be read: "),
        ("w.pt", b"PK\x03\x04 not a zip file", "weights file {} cannot be read: "),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_network(NAME, file)
    assert str(caught.value).startswith(said.format(file))
    assert "\n" not in str(caught.value)


def test_a_file_of_other_things(tmp_path: Path) -> None:
    file = tmp_path / "list.pt"
    torch.save([1, 2], file)
    with pytest.raises(UserError, match=r"holds no named tensors: save model\.state_dict\(\)"):
        load_network(NAME, file)
    torch.save({"b": 3, "a": [torch.zeros(1)]}, file)
    with pytest.raises(UserError, match="holds something else than a tensor under 'b'"):
        load_network(NAME, file)


def test_unknown_model() -> None:
    with pytest.raises(UserError) as caught:
        load_network("resnet51", RANDOM)
    text = str(caught.value)
    assert text.startswith("there is no model 'resnet51': did you mean 'resnet")
    assert "describe_layers() lists all models" in text
    with pytest.raises(UserError) as caught:
        load_network("§", RANDOM)
    assert str(caught.value).startswith("there is no model '§'; describe_layers() lists all models")


def test_what_is_listed_classifies_segments_or_detects() -> None:
    names = list_models()
    assert names[0] == "sample"
    assert {"resnet50", "vit_b_16", "squeezenet1_1"} < set(names)
    assert {"deeplabv3_resnet50", "fasterrcnn_resnet50_fpn"} < set(names)
    assert not any("raft" in name or "r3d" in name for name in names)


@pytest.mark.parametrize("size", [0, -3])
def test_impossible_size(size: int) -> None:
    with pytest.raises(UserError, match=f"images of {size} pixels are not possible"):
        load_network(NAME, RANDOM, image_size=size)


def test_a_size_that_patches_do_not_divide() -> None:
    with pytest.raises(UserError) as caught:
        load_network("vit_b_16", RANDOM, image_size=100)
    text = str(caught.value)
    assert text.startswith("vit_b_16 does not exist for images of 100 × 100 pixels")
    assert text.endswith("pass another image_size")


def test_the_sample_network() -> None:
    network = load_network("sample", RANDOM)
    assert len(network.classes) >= 8
    assert network.weights_source == "random (seed 0)"
    assert isinstance(network.module, nn.Module)
    assert network.weights_sha256 != load_network("sample", RANDOM, seed=1).weights_sha256


@REAL
def test_real_weights_with_their_own_number_of_classes() -> None:
    file = ASSETS / "weights" / "mobilenet_v2_inat_bird.safetensors"
    network = load_network("mobilenet_v2", file)
    assert len(network.classes) == 965
    assert network.classes[964] == "class 964"
    weights = load_file(file)
    own = network.module.state_dict()
    assert all(torch.equal(own[key], each.to(own[key].dtype)) for key, each in weights.items())


def test_the_sample_network_as_shipped() -> None:
    from pipeline.sample import network as sample

    network = load_network("sample")
    assert network.weights_source == sample.WEIGHTS.name
    assert network.weights_sha256 == sha256(sample.WEIGHTS)
    assert (network.image_size, network.classes) == (sample.IMAGE_SIZE, tuple(sample.CLASSES))
    assert choose_layer(network) == sample.PARTS_LAYER


def test_an_archive_that_would_swell_is_refused_unread(tmp_path: Path) -> None:
    plain, bomb = tmp_path / "plain.pt", tmp_path / "bomb.pt"
    torch.save({"weight": torch.zeros(16_000_000)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    plain.unlink()
    assert bomb.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(UserError, match="would become 64,0"):
        read_state(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(1 << 34),
        torch.ones(1).expand(1 << 20, 1 << 14),
        torch.ones(64).as_strided((1 << 30,), (0,)),
    ],
)
def test_a_tensor_larger_than_what_is_stored_is_refused(
    tmp_path: Path, tensor: torch.Tensor
) -> None:
    file = tmp_path / "expanded.pt"
    torch.save({"weight": tensor}, file)
    assert file.stat().st_size < 3_000
    with pytest.raises(UserError, match="are views that would become"):
        read_state(file)


def test_many_views_of_one_memory_are_refused_and_tied_weights_are_not(tmp_path: Path) -> None:
    base = torch.arange(100_000.0)
    torch.save({"encoder": base, "decoder": base}, tmp_path / "tied.pt")
    found = read_state(tmp_path / "tied.pt")
    assert torch.equal(found["encoder"], found["decoder"])
    torch.save({str(n): base.view(-1) for n in range(1000)}, tmp_path / "many.pt")
    with pytest.raises(UserError, match="are views that would become"):
        read_state(tmp_path / "many.pt")


def test_tensors_without_plain_values_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.pt"
    for tensor, said in (
        (torch.eye(4).to_sparse(), "save it dense"),
        (torch.ones(4, device="meta"), "without values"),
    ):
        torch.save({"weight": tensor}, file)
        with pytest.raises(UserError, match=said):
            read_state(file)
