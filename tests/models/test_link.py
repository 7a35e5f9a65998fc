"""Independent classes: probabilities by sigmoid, from the formulas to the atlas."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

import pipeline
from pipeline.analysis.run import Run, open_run
from pipeline.classify import score_vectors
from pipeline.classify.null import LEAST, Null
from pipeline.errors import UserError
from pipeline.models import cut, load_network
from pipeline.models.link import MULTI_LABEL, divergence, probabilities, said_by, top
from pipeline.nmf import encode
from pipeline.runs.integrity import verify
from pipeline.sample import write_sample

timm: Any = import_module("timm")
hf: Any = import_module("transformers")

NAMES = {index: f"kind {index}" for index in range(5)}
Z = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 6
OTHER = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)) * 6


def test_probabilities_and_divergences_are_those_of_torch() -> None:
    assert torch.equal(probabilities(Z, "softmax"), Z.softmax(1))
    assert torch.equal(probabilities(Z, "sigmoid"), Z.sigmoid())
    truth, other = Z.double(), OTHER.double()
    independent = kl_divergence(Bernoulli(logits=truth), Bernoulli(logits=other)).mean(1)
    one_of = kl_divergence(Categorical(logits=truth), Categorical(logits=other))
    assert torch.allclose(divergence(Z, OTHER, "sigmoid"), independent, atol=1e-10)
    assert torch.allclose(divergence(Z, OTHER, "softmax"), one_of, atol=1e-10)
    assert torch.equal(divergence(Z, Z, "sigmoid"), torch.zeros(7).double())


def test_certain_answers_diverge_by_a_finite_number() -> None:
    sure = torch.tensor([[900.0, -900.0]])
    assert divergence(sure, -sure, "sigmoid").item() == pytest.approx(900.0)


def test_the_top_class_is_of_the_highest_logit_though_sigmoids_are_all_one() -> None:
    classes, likely = top(torch.tensor([[60.0, 90.0, 70.0]]), "sigmoid", 2)
    assert classes.tolist() == [[1, 2]]
    assert likely.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("says", "link"),
    [
        ({}, "softmax"),
        ({"multi_label": True}, "sigmoid"),
        ({"multi_label": False}, "softmax"),
        ({"multi_label": nn.Linear(2, 2)}, "softmax"),
        ({"problem_type": MULTI_LABEL[0]}, "sigmoid"),
        ({"problem_type": "multi_label"}, "sigmoid"),
        ({"problem_type": "single_label_classification"}, "softmax"),
    ],
)
def test_a_network_says_by_an_attribute_what_its_classes_are(
    says: dict[str, Any], link: str
) -> None:
    module = nn.Linear(3, 2)
    for name, value in says.items():
        setattr(module, name, value)
    assert said_by(module) == link


OWN = """
from torch import nn
class Net(nn.Module):
    multi_label = True
    def __init__(self, n=3):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, n)
    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))
def one():
    return Net(1)
"""


def test_every_source_passes_it_on(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = load_network(f"{tmp_path / 'own.py'}:Net", image_size=32)
    assert (own.link, cut(own, "auto").link) == ("sigmoid", "sigmoid")
    # Of one logit, a no and a yes, one holds.
    assert load_network(f"{tmp_path / 'own.py'}:one", image_size=32).link == "softmax"
    assert load_network(f"{tmp_path / 'own.py'}:Net", image_size=32, head="none").link == "softmax"
    assert load_network("timm:test_resnet", Path("random")).link == "softmax"
    assert load_network("sample").link == "softmax"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("images")
    write_sample(base / "sample", n_images=40, size=64)
    return base / "sample" / "images"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label classifier as transformers saves it, whose answers are yes at times."""
    folder = tmp_path_factory.mktemp("hf") / "resnet"
    torch.manual_seed(0)
    model = hf.ResNetForImageClassification(
        hf.ResNetConfig(
            depths=[1, 1], hidden_sizes=[16, 24], embedding_size=16, id2label=NAMES,
            problem_type="multi_label_classification",
        )
    )  # fmt: skip
    last = model.classifier[-1]
    last.weight.data *= 8 / last.weight.data.norm(dim=1, keepdim=True)
    last.bias.data -= 0.5
    model.save_pretrained(folder)
    settings = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64},
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def run(images: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    where = tmp_path_factory.mktemp("multi") / "run"
    return pipeline.discover(images, run=where, model=f"hf:{folder}", k=4)


def test_a_multi_label_classifier_goes_to_the_atlas(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["link"] == "sigmoid"
    shard = run.workspace.heatmaps.read(0, ["image_id", "logits"])
    logits = torch.from_numpy(shard["logits"]).double()
    table = run.table("images").set_index("image_id").loc[shard["image_id"]]
    assert table["pred_class"].tolist() == logits.argmax(1).tolist()
    assert np.allclose(table["pred_prob"], logits.amax(1).sigmoid(), atol=1e-6)
    said = run.table("concept_classes")
    assert np.allclose(said["prob"], 1 / (1 + np.exp(-said["logit"])), atol=1e-9)
    sums = said[said["source"] == "context"].groupby("concept_id")["prob"].sum()
    assert (abs(sums - 1) > 0.05).any()
    best = said[(said["source"] == "context") & (said["rank"] == 1)].set_index("concept_id")
    concepts = run.table("concepts").set_index("concept_id")
    assert np.allclose(concepts["top_prob"], best["prob"])
    assert verify(run.folder).is_whole


def test_fidelity_is_of_single_decisions(run: Run) -> None:
    samples = run.meaning._samples
    bank, workspace = run.workspace.bank, run.workspace
    image_ids = samples.image_ids(64, samples.split)
    seen = samples.see(image_ids, bank, samples.stand_ins(bank))
    truth, answer = seen.truth.double().sigmoid(), seen.answers["nmf"].double().sigmoid()
    rows = run.sql("from fidelity where class_id is null and level is null").set_index("metric")
    value = rows["value"]
    assert value["agreement"] == ((truth > 0.5) == (answer > 0.5)).double().mean().item()
    yes = (truth > 0.5).double().mean().item()
    assert 0 < yes < 1
    assert value["agreement_blind"] == max(yes, 1 - yes)
    expected = kl_divergence(Bernoulli(probs=truth), Bernoulli(probs=answer)).mean().item()
    assert value["kl"] == pytest.approx(expected, rel=1e-6)
    assert rows["baseline"]["agreement"] == value["agreement_mean"]
    again = run.meaning.fidelity(n_images=64)
    again = again[again["class_id"].isna()].set_index("metric")
    assert again["value"]["agreement_blind"] == value["agreement_blind"]
    assert workspace.cut.link == "sigmoid"


def test_effects_and_curves_are_of_each_classs_own_probability(run: Run) -> None:
    meaning, workspace = run.meaning, run.workspace
    image_ids = run.table("images")["image_id"][:5].tolist()
    found = meaning.ablate(0, image_ids).set_index("image_id")
    for images in meaning._samples.read(image_ids):
        logits = workspace.cut.head(images.V)
        for image_id, row in zip(images.image_id.tolist(), logits, strict=True):
            assert found.loc[image_id, "class_before"] == int(row.argmax())
            assert found.loc[image_id, "prob_before"] == pytest.approx(float(row.max().sigmoid()))
    curves = meaning.curves(8)
    whole = curves[curves["level"] == 1]
    assert np.allclose(whole["deletion"], whole["insertion"])
    seen = meaning._seen(8)
    answers = meaning._answers(seen)
    expected = answers.logits(seen.H).gather(1, seen.top[:, None]).double().sigmoid()[:, 0]
    assert np.allclose(whole["deletion"], expected.numpy(), atol=1e-6)
    blurred = meaning.blur(0, 4)
    assert not math.isclose(blurred.classes["prob"].sum(), 1, abs_tol=0.01)


def test_the_null_is_of_probabilities(run: Run) -> None:
    """A z of the table is worked out again from the definition, over all positions but its own."""
    workspace, samples = run.workspace, run.meaning._samples
    bank, layer = workspace.bank, workspace.cut
    real = bank.transform.forward(samples.positions)

    def score(vectors: torch.Tensor) -> torch.Tensor:
        return score_vectors(layer, bank.transform.decode(vectors))

    present = encode(real, torch.from_numpy(bank.W)) >= torch.from_numpy(bank.thresholds)
    context = torch.from_numpy(bank.context.T)
    found = Null.of(score, real, samples.owners, "sigmoid").test(context, present)
    assert np.allclose(found.z, workspace.classification.z_context, atol=1e-5)
    assert np.array_equal(found.p, workspace.classification.p)
    # With few positions every one of them is among the nearest: the definition itself.
    few = real[:: len(real) // 300][:300]
    one = Null.of(score, few, torch.arange(len(few)), "sigmoid").test(context)
    kept = few[few.norm(dim=1) > 0]
    values = score(kept).sigmoid()
    spread = values.std(0).clamp_min(LEAST["sigmoid"])
    z = (score(context).sigmoid() - values.mean(0)) / spread
    assert np.allclose(one.z, z.numpy(), atol=1e-4)


def test_pages_speak_of_yes_and_no(run: Run) -> None:
    page = (run.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert "yes or no to a class stays the same in" in page
    assert "the same answer to every class" in page
    assert "independent, each a yes or no" in page
    assert "top class stays the same" not in page
    for path in (run.folder / "atlas" / "concepts").glob("*.html"):
        assert "where 95 % of real activations lie" not in path.read_text(encoding="utf-8")


def test_the_run_remembers_it(run: Run, images: Path, folder: Path) -> None:
    """An image is explained alike though the folder of the model no longer says what it is."""
    image = next(images.rglob("*.jpg"))
    first = run.explain(image)
    assert first.classes["prob"].sum() != pytest.approx(1, abs=0.01)
    config = json.loads((folder / "config.json").read_text())
    kept = (folder / "config.json").read_bytes()
    del config["problem_type"]
    (folder / "config.json").write_text(json.dumps(config))
    try:
        assert load_network(f"hf:{folder}").link == "softmax"
        assert open_run(run.folder).explain(image).classes.equals(first.classes)
        with pytest.raises(UserError, match="with probabilities=sigmoid, now it is softmax"):
            pipeline.discover(images, run=run.folder, model=f"hf:{folder}", k=4)
    finally:
        (folder / "config.json").write_bytes(kept)


def test_an_image_by_itself_and_a_head_of_ones_own(images: Path) -> None:
    trunk: Any = timm.create_model("test_resnet", num_classes=0).eval()
    head: Any = nn.Linear(trunk.num_features, 3)
    head.multi_label = True
    nn.init.constant_(head.bias, 2.0)
    found = pipeline.explain(
        next(images.rglob("*.jpg")), network=trunk, layer=trunk.layer4, head=head, k=3,
        image_size=96,
    )  # fmt: skip
    assert found.classes["prob"].sum() > 1.5
