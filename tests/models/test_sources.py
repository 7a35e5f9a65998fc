"""Networks of timm, of Hugging Face, of one's own files and of one's own program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pipeline
from pipeline.analysis.report import list_concepts, summary
from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import load_image, network_input
from pipeline.models import consent, cut, list_layers, load_network
from pipeline.models.given_source import give
from pipeline.models.network import Normalize
from pipeline.runs.integrity import verify
from pipeline.sample import write_sample
from tests.conftest import ROOT

timm: Any = import_module("timm")
hf: Any = import_module("transformers")

RANDOM = Path("random")

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96,
    "image_size": 64, "patch_size": 8, "num_labels": 5,
}  # fmt: skip

NAMES = {index: f"kind {index}" for index in range(5)}


def hf_classifiers() -> dict[str, Any]:
    """Make small classifiers of several families, from their configurations."""
    return {
        "vit": hf.ViTForImageClassification(hf.ViTConfig(**SMALL, id2label=NAMES)),
        "dinov2": hf.Dinov2ForImageClassification(hf.Dinov2Config(**SMALL, id2label=NAMES)),
        "registers": hf.Dinov2WithRegistersForImageClassification(
            hf.Dinov2WithRegistersConfig(**SMALL, id2label=NAMES)
        ),
        "resnet": hf.ResNetForImageClassification(
            hf.ResNetConfig(
                depths=[1, 1, 1], hidden_sizes=[16, 24, 32], embedding_size=16, id2label=NAMES
            )
        ),
        "convnext": hf.ConvNextForImageClassification(
            hf.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], id2label=NAMES)
        ),
        "swin": hf.SwinForImageClassification(
            hf.SwinConfig(
                image_size=64,
                patch_size=4,
                embed_dim=24,
                depths=[2, 2],
                num_heads=[2, 4],
                window_size=4,
                id2label=NAMES,
            )
        ),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Classifiers as they are saved, with their image processors."""
    base = tmp_path_factory.mktemp("hf")
    torch.manual_seed(0)
    for name, model in hf_classifiers().items():
        model.save_pretrained(base / name)
        settings = {
            "image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64},
            "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3,
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        }  # fmt: skip
        (base / name / "preprocessor_config.json").write_text(json.dumps(settings))
    return {name: base / name for name in hf_classifiers()}


def noise(size: int, n: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def assert_heads_are_exact(network: Any) -> int:
    """At every layer that can be cut, the head of the layer is the network."""
    images = noise(network.image_size)
    with torch.no_grad():
        returned = network.module(Normalize(network)(images))
    usable = [layer.name for layer in list_layers(network) if layer.usable]
    for name in usable:
        layer = cut(network, name)
        forward = layer.forward(images)
        again = layer.head(forward.V, forward.prefix)
        scale = float(returned.abs().max())
        assert torch.allclose(forward.logits, returned, atol=1e-5 * scale), name
        assert torch.allclose(again, returned, atol=1e-5 * scale), name
    return len(usable)


@pytest.mark.parametrize("family", ["vit", "dinov2", "registers", "resnet", "convnext", "swin"])
def test_hugging_face_classifiers_from_a_folder(folders: dict[str, Path], family: str) -> None:
    network = load_network(f"hf:{folders[family]}")
    assert network.classes == tuple(NAMES.values())
    assert (network.mean, network.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert network.scaling.interpolation == "bicubic"
    assert network.image_size == 64
    assert assert_heads_are_exact(network) >= 3
    model = hf.AutoModelForImageClassification.from_pretrained(folders[family]).eval()
    processor = hf.AutoImageProcessor.from_pretrained(folders[family])
    images = noise(64)
    given = processor([each.permute(1, 2, 0).numpy() for each in images], return_tensors="pt")
    with torch.no_grad():
        expected = model(**given).logits
    assert torch.allclose(cut(network, "auto").forward(images).logits, expected, atol=1e-4)


@pytest.mark.slow
def test_tokens_beside_the_positions_are_kept_apart(folders: dict[str, Path]) -> None:
    prefixes = {"vit": 1, "dinov2": 1, "registers": 5, "resnet": 0, "swin": 0}
    for family, n_prefix in prefixes.items():
        layer = cut(load_network(f"hf:{folders[family]}"), "auto")
        assert layer.n_prefix == n_prefix, family


TIMM = [
    "test_efficientnet", "test_vit", "test_resnet", "test_convnext", "test_byobnet",
    "test_mambaout", "test_nfnet", "test_vit2", "test_vit3", "test_vit4",
]  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_small_networks_of_timm(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    network = load_network(f"timm:{name}", RANDOM)
    settings = timm.data.resolve_model_data_config(timm.create_model(name))
    assert network.mean == tuple(settings["mean"])
    assert network.std == tuple(settings["std"])
    assert network.image_size == settings["input_size"][-1]
    assert network.scaling.crop == settings["crop_pct"]
    assert assert_heads_are_exact(network) >= 1
    twice = [load_network(f"timm:{name}", RANDOM, seed=3).weights_sha256 for _ in range(2)]
    assert twice[0] == twice[1] != network.weights_sha256


@pytest.mark.slow
def test_real_weights_of_timm_see_what_timm_sees(assets: Path) -> None:
    """EfficientNet-Lite0 has mean and std 0.5, and with ImageNet's errs on every fifth image."""
    weights = assets / "weights" / "tf_efficientnet_lite0.safetensors"
    network = load_network("timm:tf_efficientnet_lite0", weights)
    assert network.mean == network.std == (0.5, 0.5, 0.5)
    folder = assets / "images" / "imagenet_samples"
    truth = pd.read_csv(assets / "images" / "imagenet_samples.csv")
    normalize = Normalize(network)
    right = {"crop": 0, "squash": 0}
    for path, class_id in zip(truth["path"], truth["class_id"], strict=True):
        image = load_image(folder / Path(path).name)
        for way in right:
            square, _ = network_input(image, 224, way, network.scaling)  # type: ignore[arg-type]
            with torch.no_grad():
                answer = network.module(normalize(square[None]))
            right[way] += int(answer.argmax()) == class_id
    shares = {way: n / len(truth) for way, n in right.items()}
    print(f"EfficientNet-Lite0 is right on {shares}")
    assert shares["crop"] >= 0.88


OWN = """
from torch import nn
import helper

class Small(nn.Module):
    class_names = ["left", "right"]

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1))
        self.fc = nn.Linear(12, 2)

    def forward(self, images):
        maps = self.stem(images).relu()
        return {"logits": self.fc(maps.mean((2, 3))), "maps": maps}

def make():
    return Small()

def broken():
    return helper.missing
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("")
    return tmp_path / "own.py"


def test_a_function_of_ones_own_makes_the_network(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(f"{own}:make", image_size=32, mean=(0.1, 0.2, 0.3), std=(1, 1, 2))
    assert network.classes == ("left", "right")
    assert network.mean == (0.1, 0.2, 0.3)
    assert assert_heads_are_exact(network) >= 2
    assert {layer.name for layer in list_layers(network)} >= {"stem", "stem.0"}
    monkeypatch.chdir(own.parent)
    assert load_network("own:make", image_size=32).classes == ("left", "right")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{own}:mkae", "has no 'mkae': did you mean 'make'"),
        ("{own}:broken", r"failed at .*own\.py:\d+: AttributeError"),
        ("{own}.py:make", "there is no file"),
        ("no_such_package.models:make", "No module named 'no_such_package'"),
        ("timm:test_vot", "timm has no model 'test_vot': did you mean 'test_vit'"),
        ("hf:{folder}", "cannot be loaded by transformers"),
    ],
)
def test_what_cannot_be_loaded_is_said(own: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_network(name.format(own=own, folder=own.parent))


class Counting(nn.Module):
    """Asks how many images there are as Python does, which torch.fx does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        positions = self.patches(images).reshape(len(images), 8, -1).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(positions), -1, -1), positions], 1)
        logits: torch.Tensor = self.fc(self.block(tokens).mean(1))
        return logits


def test_a_network_may_ask_how_many_images_there_are() -> None:
    torch.manual_seed(0)
    module = Counting().eval()
    network = load_network(give({}, module)["model"], image_size=32)
    made = cut(network, "block")
    for n in (1, 2, 5):
        images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
        forward = made.forward(images)
        assert forward.V.shape == (n, 4, 4, 8)
        torch.testing.assert_close(made.head(forward.V, forward.prefix), forward.logits)
    assert len([1, 2, 3]) == 3


def test_a_network_that_asks_values_says_so(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        maps = self.conv(x)\n"
        "        if maps.mean() > 0:\n"
        "            maps = -maps\n"
        "        return self.fc(maps.mean((2, 3)))\n"
    )
    network = load_network(f"{tmp_path / 'own.py'}:Net", image_size=32)
    with pytest.raises(UserError, match=r"neither torch\.fx nor torch\.export can trace it"):
        list_layers(network)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("images")
    write_sample(base / "sample", n_images=24, size=64)
    return base / "sample" / "images"


def trained_like() -> nn.Module:
    """A network as a program holds it: wrapped, in train mode, in half precision."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("test_resnet", num_classes=4)
    return nn.DataParallel(model.half().train())


def test_a_network_that_is_given_stays_as_it_is(images: Path, tmp_path: Path) -> None:
    network: Any = trained_like()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layer = network.module.layer3
    run = pipeline.discover(
        images, run=tmp_path / "run", network=network, layer=layer, k=3, image_size=64
    )
    assert run.workspace.config.layer.startswith("layer3")
    assert (run.folder / "atlas" / "index.html").is_file()
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert next(network.parameters()).dtype == torch.float16
    again = open_run(run.folder, network=network)
    image = next(images.rglob("*.jpg"))
    assert again.explain(image).legend.equals(run.explain(image).legend)
    other = timm.create_model("test_resnet", num_classes=4)
    with pytest.raises(UserError, match="was made with given:ResNet-"):
        open_run(run.folder, network=other)


def test_an_image_is_explained_as_the_tutorial_writes_it(images: Path) -> None:
    model: Any = timm.create_model("test_resnet", num_classes=6).eval()
    image = next(images.rglob("*.jpg"))
    found = pipeline.explain(
        image, network=model, layer=model.layer3, head=model.fc, k=4, top=3, image_size=96
    )
    assert found.heatmaps.shape[0] == 4
    assert found.picture.ndim == 3
    with pytest.raises(UserError, match="top=7 is not possible: the network has 6 classes"):
        pipeline.explain(image, network=model, layer=model.layer3, k=2, top=7, image_size=96)


def test_a_head_of_ones_own_makes_classes_of_features(images: Path) -> None:
    trunk: Any = timm.create_model("test_resnet", num_classes=0).eval()
    head = nn.Linear(trunk.num_features, 3)
    found = pipeline.explain(
        next(images.rglob("*.jpg")), network=trunk, layer=trunk.layer4, head=head, k=3,
        image_size=96,
    )  # fmt: skip
    assert set(found.classes["label"]) == {"class 0", "class 1", "class 2"}


@pytest.mark.parametrize(
    "source", [pytest.param(each, marks=pytest.mark.slow) for each in ("timm", "hf", "file")]
)
def test_each_source_goes_to_the_atlas(
    images: Path, tmp_path: Path, folders: dict[str, Path], own: Path, source: str
) -> None:
    known: dict[str, dict[str, Any]] = {
        "timm": {"model": "timm:test_vit", "weights": "random"},
        "hf": {"model": f"hf:{folders['registers']}"},
        "file": {"model": f"{own}:make", "image_size": 64, "mean": "0.5", "std": "0.5"},
    }
    run = pipeline.discover(images, run=tmp_path / "run", k=3, **known[source])
    assert (run.folder / "atlas" / "index.html").is_file()
    assert len(run.table("concepts")) == 3
    assert run.table("images")["pred_label"].notna().all()
    again = open_run(run.folder)
    assert again.explain(next(images.rglob("*.jpg"))).heatmaps.shape[0] == 3


def test_objects_are_not_shared_with_workers(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be shared with other processes"):
        pipeline.discover(images, run=tmp_path / "run", network=nn.Identity(), workers=2)


@pytest.mark.parametrize(
    ("text", "ending", "words"),
    [
        ("a\nb\nc\n", "txt", ""),
        ('["a", "b", "c"]', "json", ""),
        ('{"id2label": {"1": "b", "0": "a", "2": "c"}}', "json", ""),
        ("a\nb\n", "txt", "names 2 classes, .* has 3"),
        ("a\n\nc\n", "txt", "no name for class 1"),
        ('{"0": "a", "2": "c", "3": "d"}', "json", "none for class 1"),
        ("{", "json", "not valid JSON"),
    ],
)
def test_class_names_of_a_file(tmp_path: Path, text: str, ending: str, words: str) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("Linear(12, 2)", "Linear(12, 3)"))
    (tmp_path / "helper.py").write_text("")
    file = tmp_path / f"names.{ending}"
    file.write_text(text)
    if not words:
        network = load_network(f"{tmp_path / 'own.py'}:make", image_size=32, class_names=file)
        assert network.classes == ("a", "b", "c")
        return
    with pytest.raises(UserError, match=words):
        load_network(f"{tmp_path / 'own.py'}:make", image_size=32, class_names=file)


def backbones(base: Path) -> dict[str, str]:
    """Small backbones: DINOv2 as a folder, and the tower of CLIP that sees images."""
    small = {key: value for key, value in SMALL.items() if key != "num_labels"}
    torch.manual_seed(0)
    hf.Dinov2Model(hf.Dinov2Config(**small)).save_pretrained(base / "dinov2")
    words = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
        "intermediate_size": 16,
    }  # fmt: skip
    hf.CLIPModel(hf.CLIPConfig(vision_config=small, text_config=words)).save_pretrained(
        base / "clip"
    )
    return {"dinov2": f"hf:{base / 'dinov2'}", "clip": f"hf:{base / 'clip'}"}


@pytest.mark.parametrize(
    "name", ["clip", *(pytest.param(each, marks=pytest.mark.slow) for each in ("dinov2", "timm"))]
)
def test_a_backbone_has_concepts_without_classes(images: Path, tmp_path: Path, name: str) -> None:
    trunk: Any = timm.create_model("test_vit", num_classes=0, img_size=64)
    model: dict[str, Any] = {"network": trunk, "layer": trunk.blocks}
    if name != "timm":
        model = {"model": backbones(tmp_path)[name]}
    run = pipeline.discover(images, run=tmp_path / "run", k=3, image_size=64, **model)
    table = run.table("images")
    assert table[["pred_class", "pred_label", "pred_prob"]].isna().all().all()
    concepts = run.table("concepts")
    unknown = ["top_class", "top_label", "top_prob", "top_p", "top_significant", "importance"]
    assert concepts[unknown].isna().all().all()
    assert (concepts["n_images"] > 0).all()
    assert run.table("concept_classes").empty
    assert run.table("fidelity").empty
    assert run.object_mask(table["image_id"][0]).dtype == bool
    assert "(the network has no classes)" in summary(run)
    assert "– " in list_concepts(run)
    found = run.explain(next(images.rglob("*.jpg")))
    assert found.classes.empty
    image_ids = table["image_id"][:2].tolist()
    for ask in (
        run.meaning.fidelity, run.meaning.curves, run.meaning.areas, run.meaning.importance,
        lambda: run.meaning.split(image_ids), lambda: run.meaning.ablate(0, image_ids),
        lambda: run.meaning.blur(0), lambda: run.logits(image_ids[0]),
    ):  # fmt: skip
        with pytest.raises(UserError, match="has no classes"):
            ask()
    assert "nan" not in found.describe().lower()
    page = (run.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert "This network has no classes." in page
    assert verify(run.folder).is_whole


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "fcn_resnet50", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_the_trunk_of_networks_that_segment_or_detect(name: str) -> None:
    network = load_network(name, RANDOM, image_size=128)
    assert network.classes == ()
    layer = cut(network, "auto")
    forward = layer.forward(noise(128, 2))
    assert forward.V.shape[0] == 2
    assert forward.logits.shape == (2, 0)
    assert forward.V.flatten().std() > 0


ONE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 1)
    def forward(self, x):
        return {shape}
"""


@pytest.mark.parametrize("shape", ["self.fc(m)", "self.fc(m).squeeze(1)"])
def test_one_logit_is_a_no_and_a_yes(tmp_path: Path, shape: str) -> None:
    shape = shape.replace("(m)", "(self.conv(x).relu().mean((2, 3)))")
    (tmp_path / "one.py").write_text(ONE.replace("{shape}", shape))
    torch.manual_seed(5)
    network = load_network(f"{tmp_path / 'one.py'}:Net", image_size=32)
    weights = network.module.state_dict()
    assert network.classes == ("no", "yes")
    assert any("one number" in note for note in network.notes)
    layer = cut(network, "auto")
    assert layer.head_kind == "pool_linear"
    forward = layer.forward(noise(32))
    z = forward.logits[:, 1] - forward.logits[:, 0]
    assert torch.allclose(forward.logits.softmax(1)[:, 1], z.sigmoid(), atol=1e-6)
    pooled = forward.V.mean((1, 2))
    weight = weights["network.fc.weight"][1] * 2
    assert torch.allclose(z, pooled @ weight + weights["network.fc.bias"][1] * 2, atol=1e-5)


def test_one_logit_that_is_reshaped_is_refused(tmp_path: Path) -> None:
    shape = "self.fc(self.conv(x).relu().mean((2, 3))).view(-1)"
    (tmp_path / "one.py").write_text(ONE.replace("{shape}", shape))
    with pytest.raises(UserError, match="let it return the last layer's answer"):
        load_network(f"{tmp_path / 'one.py'}:Net", image_size=32)


def test_a_reshape_transform_is_taken(images: Path) -> None:
    model = timm.create_model("test_vit3", num_classes=3, img_size=64)
    found = pipeline.explain(
        next(images.rglob("*.jpg")), network=model, layer=model.blocks, k=2, image_size=64,
        reshape_transform=lambda tokens: tokens,
    )  # fmt: skip
    assert found.heatmaps.shape[0] == 2
    with pytest.raises(UserError, match="reshape_transform is a function, this is a int"):
        pipeline.explain(next(images.rglob("*.jpg")), network=model, reshape_transform=3)  # type: ignore[call-overload]


ASK = """
import sys
from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.runs.find import find_run
run = open_run(sys.argv[1])
print(len(run.table("concepts")))
for act in (lambda: run.explain(sys.argv[2]), lambda: find_run({"run": sys.argv[1]})):
    try:
        act()
    except UserError as error:
        print(error)
named = open_run(sys.argv[1], network=sys.argv[3])
print(named.explain(sys.argv[2]).heatmaps.shape[0])
"""


@pytest.mark.slow
def test_code_that_only_a_run_names_is_not_run(images: Path, own: Path, tmp_path: Path) -> None:
    """In a process that named nothing, as one that was sent the run."""
    name = f"{own}:make"
    run = pipeline.discover(
        images, run=tmp_path / "run", k=2, model=name, image_size=32, mean="0.5", std="0.5"
    )
    marker = own.parent / "ran"
    own.write_text(f"open({str(marker)!r}, 'w').close()\n" + own.read_text())
    image = str(next(images.rglob("*.jpg")))
    calm = {key: value for key, value in os.environ.items() if key != consent.VARIABLE}
    ask = [
        sys.executable,
        "-c",
        ASK.replace("named =", "if len(sys.argv) < 4: sys.exit()\nnamed ="),
    ]
    for arguments in ([str(run.folder), image], [str(run.folder), image, name]):
        done = subprocess.run(
            [*ask, *arguments], capture_output=True, text=True, cwd=ROOT, env=calm, check=False
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert said[0] == "2"
        assert all("is run where you name it only" in line for line in said[1:3])
        assert marker.exists() == (len(arguments) == 3)
    assert said[3] == "2"


@pytest.mark.parametrize("name", ["code:{own}:make", "own.inner:make", "{own}:make"])
def test_every_way_to_name_code_needs_consent(own: Path, name: str) -> None:
    with pytest.raises(UserError, match="is run where you name it only"):
        consent.check(name.format(own=own))
    consent.check("example:stripes")
    consent.check("resnet18")


@pytest.mark.slow
def test_a_function_is_found_again_from_any_folder(
    own: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    options: dict[str, Any] = {"k": 2, "image_size": 32, "mean": "0.5", "std": "0.5"}
    run = pipeline.discover(images, run=tmp_path / "run", model="own.py:make", **options)
    assert run.workspace.config.model == f"{own}:make"
    monkeypatch.chdir(tmp_path.parent)
    assert open_run(run.folder).explain(next(images.rglob("*.jpg"))).heatmaps.shape[0] == 2


def test_a_damaged_image_processor_is_not_taken_for_none(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["resnet"], tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded by transformers"):
        load_network(f"hf:{tmp_path / 'resnet'}")
    (tmp_path / "resnet" / "preprocessor_config.json").unlink()
    (note,) = load_network(f"hf:{tmp_path / 'resnet'}").notes
    assert "has no image processor" in note
