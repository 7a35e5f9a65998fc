"""Networks in files of torch.export: cut like the module they came of; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import pipeline
from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.models import consent, cut, describe_layers, list_layers, load_network
from pipeline.models.network import Normalize
from pipeline.sample import write_sample
from tests.models.test_sources import assert_heads_are_exact, noise

timm: Any = import_module("timm")

SIZE = 64


def made(name: str) -> nn.Module:
    """Make a small network, the same at every call, with statistics of batches that matter."""
    torch.manual_seed(0)
    model: nn.Module
    if name.startswith("timm:"):
        model = timm.create_model(name.removeprefix("timm:"), num_classes=7, img_size=SIZE)
    elif name.startswith("vit"):
        model = torchvision.models.vit_b_32(num_classes=7, image_size=SIZE)
        nn.init.normal_(model.get_submodule("heads.head").weight, std=0.1)  # type: ignore[arg-type]
    else:
        model = torchvision.models.get_model(name, num_classes=7)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def exported(
    model: nn.Module,
    file: Path,
    *,
    batch: int | None = None,
    change: Callable[[Any], Any] = lambda program: program,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Export a network to a file, for any number of images or for `batch`."""
    images = torch.randn(batch or 2, 3, SIZE, SIZE, dtype=dtype)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=shapes)
        torch.export.save(change(program), file)
    return str(file)


NETWORKS = ["resnet18", "mobilenet_v2", "densenet121", "convnext_tiny", "squeezenet1_1", "vit_b_32",
    "swin_t",
]  # fmt: skip


QUICK = [("resnet18", True), ("squeezenet1_1", False)]
"""Networks that are always tried, in core operations or as exported; the rest takes minutes."""

SLOW = ["resnet18", "squeezenet1_1"]
"""Those whose other form is among the slow ones; of the rest both forms are among the long ones."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    """Return how long what a network takes is."""
    return [pytest.mark.slow] if name in SLOW else [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize(
    ("name", "decomposed"),
    [
        pytest.param(
            name,
            decomposed,
            marks=[] if (name, decomposed) in QUICK else marks(name),
            id=f"{name}-{'core operations' if decomposed else 'as exported'}",
        )
        for name in NETWORKS
        for decomposed in (False, True)
    ],
)
def test_a_program_is_cut_like_its_network(tmp_path: Path, name: str, decomposed: bool) -> None:
    model = made(name)
    file = exported(
        model,
        tmp_path / "network.pt2",
        change=lambda program: program.run_decompositions() if decomposed else program,
    )
    network, images = load_network(file), noise(SIZE)
    assert network.image_size == SIZE
    assert len(network.classes) == 7
    with torch.no_grad():
        expected = model(Normalize(network)(images))
    assert torch.allclose(cut(network, "auto").forward(images).logits, expected, atol=1e-4)
    assert assert_heads_are_exact(network) >= 4
    held = load_network(f"given:{pipeline.models.give({}, model)['model'].partition(':')[2]}",
                        image_size=SIZE)  # fmt: skip
    theirs = {layer.name: layer for layer in list_layers(held) if layer.usable}
    for layer in list_layers(network):
        if layer.usable and layer.name in theirs:
            there, here = cut(held, layer.name), cut(network, layer.name)
            assert torch.allclose(here.forward(images).V, there.forward(images).V, atol=1e-4), (
                layer.name
            )
            assert [list(each) for each in here.centres] == [list(each) for each in there.centres]
    assert cut(held, "auto").layer == cut(network, "auto").layer
    assert cut(held, "auto").head_kind == cut(network, "auto").head_kind


@pytest.mark.parametrize("batch", [1, None])
def test_a_program_for_images_that_are_no_squares(tmp_path: Path, batch: int | None) -> None:
    model, file = made("resnet18"), tmp_path / "network.pt2"
    images = torch.zeros(batch or 2, 3, 64, 128)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=shapes), file)
    network = load_network(str(file))
    assert network.image_size == (64, 128)
    layer = cut(network, "layer3")
    assert (layer.height, layer.width) == (4, 8)
    forward = layer.forward(torch.zeros(5, 3, 64, 128, dtype=torch.uint8))
    assert torch.allclose(layer.head(forward.V), forward.logits, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("resnet18", 1),
        ("timm:test_vit", 3),
        *(
            pytest.param(name, batch, marks=marks(name))
            for name in ("convnext_tiny", "swin_t")
            for batch in (1, 3)
        ),
    ],
)
def test_a_program_for_so_many_images_takes_any_number(
    tmp_path: Path, name: str, batch: int
) -> None:
    model = made(name)
    network = load_network(exported(model, tmp_path / "network.pt2", batch=batch))
    images = noise(SIZE, 5)
    with torch.no_grad():
        expected = model(Normalize(network)(images))
    assert torch.allclose(cut(network, "auto").forward(images).logits, expected, atol=1e-4)
    assert assert_heads_are_exact(network) >= 2


def test_layers_are_listed_and_weights_drawn_for_trials(tmp_path: Path) -> None:
    file = exported(made("resnet18"), tmp_path / "network.pt2")
    table = describe_layers(file)
    assert table.loc[table["auto"], "layer"].tolist() == ["layer4"]
    one, again, two = (
        cut(load_network(file, Path("random"), seed=seed), "auto").forward(noise(SIZE)).logits
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)


def test_one_that_hangs_on_the_number_of_images_says_how_to_export_it(tmp_path: Path) -> None:
    file = exported(made("vit_b_32"), tmp_path / "network.pt2", batch=1)
    with pytest.raises(UserError, match=r"for batches of 1, .*dynamic_shapes=\(\{0:"):
        load_network(file)


def test_half_precision_and_train_mode_are_undone(tmp_path: Path) -> None:
    model = made("resnet18")
    images = noise(SIZE)
    expected = load_network(exported(model, tmp_path / "plain.pt2"))
    file = exported(model.train(), tmp_path / "training.pt2")
    network = load_network(file)
    assert "exported in train mode" in network.notes[0]
    logits = cut(expected, "auto").forward(images).logits
    assert torch.allclose(cut(network, "auto").forward(images).logits, logits, atol=1e-4)
    half = made("resnet18").half()
    file = exported(half, tmp_path / "half.pt2", dtype=torch.float16)
    network = load_network(file)
    assert {each.dtype for each in network.module.parameters()} == {torch.float32}
    found = cut(network, "auto").forward(images).logits
    assert torch.allclose(found, logits, atol=1e-2 * float(logits.abs().max()))


class Answers(nn.Module):
    """Answers with a dict whose first tensor is not the logits."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, n_classes)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.body(images).relu()
        return {"aux": maps.mean(), "logits": self.fc(maps.mean((2, 3)))}


@pytest.mark.parametrize(("n", "classes"), [(3, 3), (1, 2)])
def test_the_logits_are_found_among_answers(tmp_path: Path, n: int, classes: int) -> None:
    torch.manual_seed(0)
    network = load_network(exported(Answers(n).eval(), tmp_path / "network.pt2"))
    assert len(network.classes) == classes
    assert cut(network, "auto").head_kind == "pool_linear"
    assert assert_heads_are_exact(network) >= 1


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("program") / "network.pt2"
    torch.manual_seed(0)
    exported(Answers(3).eval(), file)
    return file


def changed(program: Path, to: Path, **entries: Callable[[Any], Any] | bytes) -> str:
    """Copy a program with some of its entries (JSON, by the end of their names) changed."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            change = entries.get(Path(name).stem)
            if callable(change) and name.endswith(".json"):
                described = json.loads(content)
                change(described)
                content = json.dumps(described).encode()
            new.writestr(name, content)
        for name, given in entries.items():
            if isinstance(given, bytes):
                new.writestr(f"{program.stem}/{name}", given)
    return str(to)


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def attacks(marker: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Return what torch.export.load would execute of a file, with what is said of it here."""
    code = f"open({str(marker)!r}, 'w')"

    def pickled(described: Any) -> None:
        described["config"]["fc.weight"]["use_pickle"] = True

    def opaque(described: Any) -> None:
        described["config"]["x"] = {
            "path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None,
        }  # fmt: skip

    def evaluated(described: Any) -> None:
        graph = described["graph_module"]["graph"]
        for meta in graph["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"Symbol('s0') + {code}"

    def guarded(described: Any) -> None:
        described["guards_code"] = [f"{code} is not None"]

    def operation(target: str) -> Callable[[Any], None]:
        def change(described: Any) -> None:
            described["graph_module"]["graph"]["nodes"][1]["target"] = target

        return change

    def named(described: Any) -> None:
        graph = described["graph_module"]["graph"]
        text = json.dumps(graph).replace('"conv2d"', json.dumps(f"conv2d\n    {code}"))
        graph.update(json.loads(text))

    pickle_bytes = pickle.dumps(Runs(marker))
    return {
        "pickle": ({"model_weights_config": pickled, "data/weights/x": pickle_bytes}, "a pickle"),
        "opaque": (
            {"model_constants_config": opaque, "data/constants/opaque_obj_0": pickle_bytes},
            "a pickle",
        ),
        "example": ({"data/sample_inputs/model.pt": pickle_bytes}, ""),
        "expression": ({"model": evaluated}, ""),
        "guard": ({"model": guarded}, ""),
        "name": ({"model": named}, ""),
        "compiled": ({"data/aotinductor/model/x.so": b"\x7fELF"}, "compiled code"),
        "file": ({"model": operation("torch.ops.aten.from_file.default")}, "no plain operation"),
        "custom": ({"model": operation("torch.ops.mine.run.default")}, "no plain operation"),
        "torch": ({"model": operation("torch.load")}, "no plain operation"),
        "hidden": (
            {"model": operation("torch.ops.aten._sparse_coo_tensor_unsafe.default")},
            "no plain operation",
        ),
        "higher": (
            {"model": operation("torch.ops.higher_order.wrap_with_set_grad_enabled")},
            "no plain operation",
        ),
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", list(attacks(Path())))
def test_nothing_in_a_program_is_executed(program: Path, tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "ran"
    entries, words = attacks(marker)[attack]
    file = changed(program, tmp_path / "network.pt2", **entries)
    if words:
        with pytest.raises(UserError, match=words):
            load_network(file)
    else:
        assert assert_heads_are_exact(load_network(file)) >= 1
    assert not marker.exists()
    consent.check(file)  # so that it may be named by a run that somebody else made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda each: each["schema_version"].update(major=9), "has version 9 of torch's format"),
        (lambda each: each.pop("graph_module"), "cannot be read: KeyError: 'graph_module'"),
        (
            lambda each: each["graph_module"]["graph"]["nodes"][0]["inputs"][0].clear(),
            "cannot be read: KeyError: 'name'",
        ),
        (
            lambda each: each["graph_module"]["graph"]["tensor_values"]["images"]["sizes"].pop(),
            r"takes torch.float32 of 2 × 3 × 64: it has to take RGB images",
        ),
    ],
)
def test_damage_is_said(
    program: Path, tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        load_network(changed(program, tmp_path / "network.pt2", model=change))


def test_weights_that_do_not_fit_are_said(program: Path, tmp_path: Path) -> None:
    def shorter(described: Any) -> None:
        described["config"]["fc.weight"]["tensor_meta"]["sizes"][1]["as_int"] = 2

    file = changed(program, tmp_path / "network.pt2", model_weights_config=shorter)
    with pytest.raises(UserError, match="cannot be run: RuntimeError: "):
        load_network(file)


class Writes(nn.Module):
    """Normalises the images first; may write into a part of a tensor."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.norm, self.body, self.fc = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 3)
        self.writes = writes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.body(self.norm(images)).relu()
        if self.writes:
            maps[:, :, 0] = 1.0
        logits: torch.Tensor = self.fc(maps.mean((2, 3)))
        return logits


class Moves(Answers):
    """Makes tensors where its images are."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        ones = torch.ones_like(images[:, :1], device=images.device)
        return super().forward(images.to(device=images.device, dtype=torch.float32) * ones)


def test_no_device_is_taken_over(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = load_network(exported(Moves(3).eval(), tmp_path / "network.pt2"))
    nodes = network.traced.graph.graph.nodes
    assert any("ones_like" in str(node.target) for node in nodes)
    assert not [node for node in nodes if "device(" in str((node.args, node.kwargs))]
    assert assert_heads_are_exact(network) >= 1


def test_what_is_written_into_parts_is_not_lost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = load_network(exported(Writes(False).eval(), tmp_path / "network.pt2"))
    assert assert_heads_are_exact(network) >= 2
    with pytest.raises(UserError, match="writes into parts of tensors, which cannot be cut"):
        load_network(exported(Writes(True).eval(), tmp_path / "writes.pt2"))
    plain = exported(
        Writes(True).eval(),
        tmp_path / "plain.pt2",
        change=lambda program: program.run_decompositions(),
    )
    assert assert_heads_are_exact(load_network(plain)) >= 2


def test_tensors_larger_than_what_is_stored_are_refused(program: Path, tmp_path: Path) -> None:
    def spread(described: Any) -> None:
        meta = described["config"]["fc.weight"]["tensor_meta"]
        meta["sizes"][0]["as_int"], meta["strides"] = 1 << 40, [{"as_int": 0}, {"as_int": 1}]

    file = changed(program, tmp_path / "network.pt2", model_weights_config=spread)
    with pytest.raises(UserError, match="are views that would become"):
        load_network(file)
    with zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/models/model.json", " " * 10_000_000)
    with pytest.raises(UserError, match="would become 10,000,000"):
        load_network(str(tmp_path / "bomb.pt2"))


def test_what_cannot_be_asked_of_a_program_is_said(program: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"image_size": 96}, "was exported for images of 64 × 64 pixels"),
        ({"weights": program}, "holds its own weights"),
    ):
        with pytest.raises(UserError, match=words):
            load_network(str(program), **options)
    with pytest.raises(UserError, match="there is no file"):
        load_network(str(tmp_path / "missing.pt2"))


def test_other_files_are_told_from_networks(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, SIZE, SIZE)
    with pytest.warns(FutureWarning, match="deprecated"):
        script: Any = torch.jit.trace(nn.Conv2d(3, 2, 3), images)
    script.save(str(tmp_path / "network.pt"))
    torch.save({"x": images}, tmp_path / "weights.pth")
    (tmp_path / "network.onnx").write_bytes(b"")
    for name, words in (
        ("network.pt", r"is TorchScript, .* torch\.export\.save"),
        ("weights.pth", "takes one of weights"),
        ("network.onnx", "is of ONNX"),
    ):
        with pytest.raises(UserError, match=words):
            load_network(str(tmp_path / name))
    with pytest.raises(UserError, match=r"is TorchScript, .* torch\.save\(torch\.jit\.load"):
        load_network("resnet18", weights=tmp_path / "network.pt")


@pytest.mark.slow
def test_a_program_goes_to_the_atlas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("resnet18")
    exported(model, tmp_path / "network.pt2")
    write_sample(tmp_path / "sample", n_images=24, size=SIZE)
    images = tmp_path / "sample" / "images"
    monkeypatch.chdir(tmp_path)
    run = pipeline.discover(
        images, run=tmp_path / "run", k=3, model="network.pt2", mean="0.5", std="0.25"
    )
    assert run.workspace.config.model == str(tmp_path / "network.pt2")
    assert (run.folder / "atlas" / "index.html").is_file()
    assert len(run.table("concepts")) == 3
    monkeypatch.chdir("/")
    image = next(images.rglob("*.jpg"))
    found = open_run(run.folder).explain(image)
    same = pipeline.discover(
        images, run=tmp_path / "same", k=3, network=model, layer="layer4", image_size=SIZE,
        mean="0.5", std="0.25",
    )  # fmt: skip
    assert found.legend["concept_id"].tolist() == same.explain(image).legend["concept_id"].tolist()
    assert (tmp_path / "network.pt2").is_file()
