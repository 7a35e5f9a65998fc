"""Commands: what is wrong is said in one sentence, before any work, and the code is not zero."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Never

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.cli.main import run
from pipeline.cli.options import OF_A_RUN, parse
from pipeline.runs.workspace import Workspace
from tests.calling import call

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def wrong(capsys: pytest.CaptureFixture[str], options: dict[str, str]) -> str:
    """Call discover with options that cannot work; return its one sentence."""
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert call("discover", argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "nowhere"}, "DATASET=nowhere does not exist"),
        ({"model": "resnet51", "weights": "random"}, "did you mean 'resnet"),
        ({"layer": "layer9"}, "layer9"),
        ({"k": "100000"}, "K=100000 is more than the data allows: layer parts has"),
        ({"k": "-3"}, "K=-3 is not possible"),
        ({"colour": "red"}, "unknown option COLOUR"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"classes": "nowhere.csv"}, "CLASSES=nowhere.csv cannot be read"),
        ({"device": "cuda:99"}, "DEVICE"),
        ({"precision": "fp8"}, "PRECISION=fp8 is not possible"),
    ],
)
def test_wrong_input_is_refused_before_any_work(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str],
    sentence: str,
) -> None:
    base = {"dataset": str(images), "model": "sample", "run": str(tmp_path / "run")}
    assert sentence in wrong(capsys, base | options)
    assert not (tmp_path / "run").exists()


def test_an_empty_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    options = {"dataset": str(tmp_path / "empty"), "model": "sample"}
    assert "holds no image" in wrong(capsys, options)


def test_weights_that_do_not_fit_name_keys_and_shapes(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    options = {"dataset": str(images), "model": "resnet18"}
    options |= {"weights": str(tmp_path / "other.safetensors"), "run": str(tmp_path / "run")}
    sentence = wrong(capsys, options)
    assert "other.safetensors" in sentence
    assert "conv1.weight" in sentence
    assert not (tmp_path / "run").exists()


def test_negative_activations_are_refused_under_none(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"dataset": str(images), "model": "resnet18", "weights": "random"}
    options |= {"layer": "layer1.0.bn2", "transform": "none", "image_size": "64"}
    options |= {"layer": "conv1", "run": str(tmp_path / "run")}
    assert "layer conv1 has negative activations" in wrong(capsys, options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,id\na,1\n", "needs columns label, class_id; it has name, id"),
        ("label,class_id\na,1200\n", "maps 'a' to class '1200'; sample has classes 0 to"),
        ("label,class_id\na,1\na,2\n", "maps 'a' to two classes, 1 and 2"),
        ("label,class_id\n7,cat,1\n", "a row of 3 values in 2 columns: 7, cat, 1"),
        ("label,class_id\na,1\n", "names none of the dataset's labels, such as 'cat'"),
    ],
)
def test_classes_that_do_not_fit(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    images.rename(tmp_path / "cat")
    (tmp_path / "data").mkdir()
    (tmp_path / "cat").rename(tmp_path / "data" / "cat")
    (tmp_path / "classes.csv").write_text(text)
    options = {"dataset": str(tmp_path / "data"), "model": "sample"}
    assert sentence in wrong(capsys, options | {"classes": str(tmp_path / "classes.csv")})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"run": "~"}, "RUN=~: write the home folder out, as"),
        ({"run": "~who/run"}, "RUN=~who/run: write the home folder out, as"),
        ({"run": "s3://bucket/run"}, "RUN=s3://bucket/run is no folder of this machine"),
        ({"run": "x" * 300}, f"{'x' * 60}… is longer than the name of a file can be"),
        ({"dataset": "x" * 5_000}, f"{'x' * 60}… is longer than the name of a file can be"),
        ({"config": "x" * 300}, f"{'x' * 60}… is longer than the name of a file can be"),
        ({"weights": "y/" * 3_000}, f"{'y/' * 30}… is longer than the name of a file can be"),
        ({"classes": "/dev/zero"}, "CLASSES=/dev/zero cannot be read: it is no regular file"),
    ],
)
def test_names_that_are_no_places(
    images: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], sentence: str
) -> None:
    assert sentence in wrong(capsys, {"dataset": str(images), "model": "sample"} | given)


def test_a_whole_disk_is_not_searched_for_a_file_that_is_not_ours(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    said = wrong(capsys, {"dataset": str(images), "model": "sample", "run": "/"})
    assert "RUN=/ holds other files, such as" in said
    assert time.monotonic() - start < 30


def test_an_unwritable_output_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    options = {"dataset": str(images), "model": "sample", "run": str(tmp_path / "file" / "run")}
    assert "cannot write to" in wrong(capsys, options)


def test_no_network_ends_in_a_sentence_that_says_what_to_pass(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    options = {"dataset": str(images), "model": "squeezenet1_1", "run": str(tmp_path / "run")}
    argv = [f"--{name}={value}" for name, value in options.items()]
    assert call("discover", argv) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("Downloading")  # torchvision's own code was at work
    assert printed.err.startswith("error: ")
    assert "WEIGHTS" in printed.err


def test_a_stray_word_is_not_taken_for_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("discover", ["word"]) == 2
    assert "unknown option WORD" in capsys.readouterr().err
    assert run("discover", ["IMAGE_SIZE=96"], "concordance") == 2
    assert "IMAGE_SIZE=96: write it as --image-size=96" in capsys.readouterr().err


def test_empty_values_are_not_given() -> None:
    assert parse("discover", "", OF_A_RUN, ["--k=", "--seed=3"]) == {"seed": "3"}


@pytest.mark.parametrize("name", ["status", "verify", "concepts", "clean"])
def test_commands_on_a_run_need_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name) == 2
    assert "RUN is missing" in capsys.readouterr().err
    assert call(name, {"run": "nowhere"}) == 2
    assert "RUN=nowhere is not a run" in capsys.readouterr().err


def test_clean_removes_runs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").mkdir()
    assert call("clean", [f"--run={tmp_path / 'precious'}"]) == 2
    assert (tmp_path / "precious").exists()
    assert "is not a run" in capsys.readouterr().err


def test_compare_needs_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", []) == 2
    assert "A is missing" in capsys.readouterr().err


def test_layers_are_listed_with_the_one_auto_takes(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model=squeezenet1_1", "--weights=random", "--image-size=64"]
    assert call("layers", argv) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = [line for line in lines if "(LAYER=auto)" in line]
    assert len(chosen) == 1
    assert chosen[0].startswith("features ")
    assert any("cannot be used" in line for line in lines)
    assert lines[-1].startswith("LAYER=auto is features: the last one before maps of class scores")
    assert lines[-1].endswith(
        "On noise it has values of 0 and more, and TRANSFORM=auto takes them as they are."
    )


def test_one_image_is_explained_by_itself(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--image={images / '0.png'}", "--model=sample", "--k=3", f"--out={tmp_path / 'x.png'}"]
    assert call("explain", argv) == 0
    assert "the network sees:" in capsys.readouterr().out
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "IMAGE is missing"),
        (["--image=nowhere.png"], "nowhere.png cannot be used: file unreadable"),
        (["--image={images}/0.png", "--k=auto"], "K=auto is not possible for one image"),
        (["--image={images}/0.png", "--k=999"], "K=999 is more than one image allows"),
    ],
)
def test_explain_refuses_what_it_cannot_do(
    images: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    assert call("explain", [each.format(images=images) for each in argv]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["discover", "extract", "layers", "explain", "status"])
def test_every_command_says_what_it_takes(stage: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage:" in found.stdout


def test_an_interrupt_leaves_a_run_that_goes_on(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(workspace: Workspace, shards: list[int]) -> Never:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.jobs.extract.extract", interrupted)
    options = {"dataset": images, "model": "sample", "run": tmp_path / "run"}
    assert call("discover", options) == 130
    assert "can be resumed" in capsys.readouterr().err
    assert '"failed"' in (tmp_path / "run" / "run.json").read_text()
