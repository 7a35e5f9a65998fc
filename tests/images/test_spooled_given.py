"""Images that a program holds are written once, losslessly, and are found when it has ended."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset
from torch.utils.data import Dataset as TorchDataset

from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import Dataset, list_dataset, load_image, read_image
from pipeline.images.deep import FLOAT32, UINT16
from pipeline.images.pixel_rule import PixelRule
from pipeline.images.spooled import store
from pipeline.images.spooled.given_source import give_images
from pipeline.jobs.discover import discover
from tests.images.spooled import OPTIONS, ROOT, as_folder, check_equal_tables, picture, pixels

IMAGES = np.stack([pixels(seed) for seed in range(24)])
LABELS = [("cat", "dog")[seed % 2] for seed in range(24)]
PICTURES = [Image.fromarray(each) for each in IMAGES]


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a folder of its own to spool into."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "spooled"))
    return tmp_path / "spooled"


def tars(spool: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in spool.rglob("*.tar")}


def given(dataset: Any, limit: int | None = None) -> Dataset:
    return list_dataset(give_images(dataset, limit))


def read(found: Dataset) -> list[NDArray[np.uint8]]:
    images = [read_image(found.source, each)[0] for each in found.images]
    return [each.permute(1, 2, 0).numpy() for each in images]


class Mapped(TorchDataset[Any]):
    """A dataset of torch that is asked by number."""

    classes = ("cat", "dog")

    def __init__(self, transform: Callable[[Image.Image], Any] | None = None) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = PICTURES[index]
        return (self.transform(image) if self.transform else image), index % 2


class Passing(IterableDataset[Any]):
    """A dataset of torch that gives one image after another, and says how many there are."""

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[Any]:
        return zip(PICTURES, torch.arange(24) % 2, strict=True)


class ClassLabel:
    """As Hugging Face's."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class ImageFeature:
    """As Hugging Face's, whose name is `Image`."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


ImageFeature.__name__ = "Image"


class Hugging:
    """As a dataset of Hugging Face: rows are dicts, of pictures or, undecoded, of files."""

    def __init__(self, decode: bool = True) -> None:
        self.features: Mapping[str, Any] = {
            "img": ImageFeature(decode), "label": ClassLabel(["cat", "dog"]),
        }  # fmt: skip
        self.format: dict[str, str | None] = {"type": None}

    def cast_column(self, name: str, feature: ImageFeature) -> Hugging:
        assert name == "img"
        return Hugging(feature.decode)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Any]:
        data = picture(index, "JPEG")
        file = {"bytes": data, "path": f"{index}.jpg"}
        image: Any = file
        if self.features["img"].decode:
            image = Image.open(io.BytesIO(data))
        return {"img": image, "label": index % 2}


def records() -> list[dict[str, Any]]:
    return [
        {"image": image, "label": label, "name": f"photo-{seed:02}.png", "split": "validation"}
        for seed, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
    ]


EVERY: dict[str, tuple[Callable[[], Any], bool]] = {
    "array": (lambda: IMAGES, False),
    "array, channels first": (lambda: IMAGES.transpose(0, 3, 1, 2), False),
    "array with labels": (lambda: (IMAGES, LABELS), True),
    "array with numbers": (lambda: (IMAGES, np.arange(24) % 2), True),
    "tensor": (lambda: torch.from_numpy(IMAGES).permute(0, 3, 1, 2), False),
    "tensor of ToTensor": (lambda: torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255, False),
    "columns": (lambda: {"image": IMAGES, "label": LABELS}, True),
    "list of arrays": (lambda: list(IMAGES), False),
    "objects": (lambda: np.array([*PICTURES, None], object)[:-1], False),
    "list of pictures": (lambda: PICTURES, False),
    "lists with labels": (lambda: (PICTURES, LABELS), True),
    "list of files": (lambda: [picture(seed) for seed in range(24)], False),
    "pairs": (lambda: list(zip(PICTURES, LABELS, strict=True)), True),
    "dicts": (records, True),
    "generator": (lambda: (each for each in IMAGES), False),
    "generator of pairs": (lambda: zip(IMAGES, LABELS, strict=True), True),
    "table of pandas": (lambda: pd.DataFrame({"img": PICTURES, "class": LABELS}), True),
    "splits": (lambda: {"train": PICTURES[:16], "test": IMAGES[16:]}, False),
    "dataset of torch": (Mapped, True),
    "with ToTensor": (lambda: Mapped(torchvision.transforms.ToTensor()), True),
    "subset": (lambda: Subset(Mapped(), range(24)), True),
    "passing dataset": (Passing, True),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_keeps_its_pixels_labels_and_order(name: str, spool: Path) -> None:
    make, is_labelled = EVERY[name]
    found = given(make())
    assert not found.rejected and len(found.images) == 24
    for a, b in zip(read(found), IMAGES, strict=True):
        assert np.array_equal(a, b)
    numbered = [("0", "1")[seed % 2] for seed in range(24)]
    labels = [each.label for each in found.images]
    assert labels in (([LABELS, numbered]) if is_labelled else ([[None] * 24]))
    if name == "dicts":
        assert found.images[3].path == "images.tar/photo-03.png"
        assert {each.split for each in found.images} == {"val"}
    if name == "splits":
        assert [each.split for each in found.images] == ["train"] * 16 + ["test"] * 8
    before = tars(spool)
    again = given(make())
    assert again.images == found.images and tars(spool) == before and len(before) == 1
    assert {path.name for path in spool.iterdir()} <= {".lock", next(iter(before)).parent.name}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "dataset of torch",
        *(
            pytest.param(x, marks=pytest.mark.long)
            for x in ("array with labels", "generator of pairs")
        ),
    ],
)
def test_a_job_on_what_is_given_is_as_of_a_folder_and_found_again(
    name: str, tmp_path: Path, spool: Path
) -> None:
    make, _ = EVERY[name]
    run = discover(make(), run=tmp_path / "run", **OPTIONS)
    assert (run.folder / "atlas" / "index.html").exists()
    files = {f"images.tar/{seed:06}.png": (picture(seed), LABELS[seed], "") for seed in range(24)}
    plain = discover(as_folder(tmp_path / "plain", files), run=tmp_path / "other", **OPTIONS)
    check_equal_tables(run, plain)
    before = tars(spool)
    discover(make(), run=run.folder, **OPTIONS)
    assert tars(spool) == before
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pipeline.analysis.run import open_run\n"
        "print(open_run(sys.argv[1]).image('images.tar/000007.png').sum())"
    )
    environment = {each: value for each, value in os.environ.items() if each != store.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code, run.folder, ROOT], cwd="/", env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(int(IMAGES[7].sum()))], done.stderr
    stage = [sys.executable, "-m", "stages.discover", f"--run={run.folder}", "--k=2"]
    (run.folder / "atlas" / "index.html").unlink()
    done = subprocess.run(
        stage[:-1], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and (run.folder / "atlas" / "index.html").exists(), done.stderr
    for path in before:
        path.unlink()
    with pytest.raises(UserError, match=r"no longer are: give them again, discover\(dataset"):
        open_run(run.folder).image("images.tar/000007.png")


def test_another_array_is_another_dataset(tmp_path: Path) -> None:
    run = discover(IMAGES, run=tmp_path / "run", **OPTIONS)
    other = IMAGES.copy()
    other[5, 0, 0, 0] ^= 1
    with pytest.raises(UserError, match="was begun with other images"):
        discover(other, run=run.folder, **OPTIONS)
    discover(IMAGES.copy(), run=run.folder, **OPTIONS)


def test_files_of_hugging_face_are_kept_as_they_are() -> None:
    found = given(Hugging())
    assert [found.source.read(each) for each in found.images] == [
        picture(int(each.path[11:-4]), "JPEG") for each in found.images
    ]
    assert {each.label for each in found.images} == {"cat", "dog"}
    transformed = Hugging()
    transformed.format = {"type": "custom"}
    found = given(transformed)
    assert all(each.path.endswith(".png") for each in found.images)
    decoded = Image.open(io.BytesIO(picture(3, "JPEG")))
    assert np.array_equal(read(found)[3], np.asarray(decoded))


def test_files_behind_a_dataset_of_torchvision_are_kept_as_they_are(
    tmp_path: Path, spool: Path
) -> None:
    for seed in range(6):
        file = tmp_path / "photos" / LABELS[seed] / f"{seed}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(seed, "JPEG"))
    plain = torchvision.datasets.ImageFolder(tmp_path / "photos")
    for dataset in (plain, Subset(plain, [4, 0, 1])):
        found = given(dataset)
        assert len(found.images) == len(dataset)
        for each in found.images:
            seed = int(Path(each.path).stem)
            assert each.path == f"{LABELS[seed]}/{seed}.jpg"
            assert found.source.read(each) == picture(seed, "JPEG") and each.label == LABELS[seed]
    assert not tars(spool), "files are read where they lie"
    mixed = given(list(itertools.chain(plain, [(PICTURES[0], 0)])))
    assert len(mixed.images) == 7 and len(tars(spool)) == 1
    tensors = torchvision.transforms.Compose(
        [torchvision.transforms.RandomHorizontalFlip(1.0), torchvision.transforms.ToTensor()]
    )
    found = given(torchvision.datasets.ImageFolder(tmp_path / "photos", tensors))
    flipped = np.asarray(Image.open(tmp_path / "photos" / "cat" / "0.jpg").convert("RGB"))[:, ::-1]
    assert np.array_equal(read(found)[0], flipped)


def test_pictures_that_know_their_files_are_their_files(tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / f"{seed}.jpg").write_bytes(picture(seed, "JPEG"))
    opened = [Image.open(tmp_path / f"{seed}.jpg") for seed in range(3)]
    found = given(opened)
    assert [found.source.read(each) for each in found.images] == [
        picture(seed, "JPEG") for seed in range(3)
    ]
    turned = given([each.rotate(90) for each in opened])
    assert np.array_equal(read(turned)[1], np.asarray(opened[1].rotate(90)))


def test_paths_are_a_dataset_where_they_lie(tmp_path: Path, spool: Path) -> None:
    for seed in range(6):
        file = tmp_path / "photos" / LABELS[seed] / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(seed))
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    found = given(paths)
    assert [(each.path, each.label) for each in found.images] == sorted(
        (f"{LABELS[seed]}/{seed}.png", LABELS[seed]) for seed in range(6)
    )
    assert (
        not tars(spool) and given(reversed_list := paths[::-1]).source.where == found.source.where
    )
    assert reversed_list != paths
    mine = given([(path, "mine") for path in paths[:2]])
    assert {each.label for each in mine.images} == {"mine"}
    table = pd.DataFrame({"file_name": map(str, paths), "label": LABELS[:6], "split": "test"})
    assert {each.split for each in given(table).images} == {"test"}
    run = discover(paths, run=tmp_path / "run", **OPTIONS)
    assert np.array_equal(open_run(run.folder).image("cat/0.png"), pixels(0))
    gone = given([*paths, tmp_path / "photos" / "gone.png"])
    assert len(gone.images) == 7  # it may be there another time
    with pytest.raises(UserError, match="two labels"):
        given([(paths[0], "a"), (paths[0], "b")])


def test_deep_images_keep_their_values() -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (5, 20, 30), np.uint16)
    found = given(wide)
    rule = PixelRule(ranges={UINT16: (0.0, 65535.0)})
    for each, values in zip(found.images, wide, strict=True):
        shown = read_image(found.source, each, rule)[0][0].numpy()
        assert np.array_equal(shown, np.rint(values / 65535 * 255).astype(np.uint8))
        with Image.open(io.BytesIO(bytes(found.source.read(each)))) as image:
            assert np.array_equal(np.asarray(image), values)
    colours = np.random.default_rng(1).integers(0, 65536, (5, 20, 30, 3), np.uint16)
    found = given(colours)
    for each, values in zip(found.images, colours, strict=True):
        shown = read_image(found.source, each, rule)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(shown, np.rint(values / 65535 * 255).astype(np.uint8))
    depths = np.random.default_rng(2).normal(size=(5, 20, 30))
    found = given(depths)
    rule = PixelRule(ranges={FLOAT32: (-4.0, 4.0)})
    for each, depth in zip(found.images, depths, strict=True):
        with Image.open(io.BytesIO(bytes(found.source.read(each)))) as image:
            assert np.array_equal(np.asarray(image), depth.astype(np.float32))
        assert read_image(found.source, each, rule)[0].shape == (3, 20, 30)
    numbers = np.arange(600, dtype=np.int64).reshape(1, 20, 30) - 300
    (each,) = given([numbers[0]]).images
    assert each.path.endswith(".tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_read_as_they_are_shown(mode: str) -> None:
    picture_ = Image.fromarray(pixels(0))
    if mode == "I;16":
        picture_ = Image.fromarray(pixels(0)[..., 0].astype(np.uint16) * 200)
    elif mode == "LA":
        picture_ = picture_.convert("RGBA").convert("LA")
        picture_.putalpha(Image.fromarray(pixels(1)[..., 0]))
    else:
        picture_ = picture_.convert(mode)
    found = given([picture_])
    assert not found.rejected
    assert np.abs(read(found)[0].astype(int) - load_image(picture_).astype(int)).max() <= 1


def test_pictures_are_upright_and_keep_their_profile() -> None:
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(pixels(0)[:20]).save(buffer, "JPEG", exif=exif)
    lying = Image.open(buffer).convert("RGB")
    lying.info["icc_profile"] = profile
    found = given([lying])
    assert read(found)[0].shape == (40, 20, 3)
    with Image.open(io.BytesIO(bytes(found.source.read(found.images[0])))) as image:
        assert image.info["icc_profile"] == profile


def test_items_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    class Faulty:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise KeyError("gone")
            return [pixels(0), None, 7, pixels(1)[:4], torch.randn(3, 40, 40), {"label": 1}][index]

    found = given(Faulty())
    assert [each.path for each in found.images] == ["images.tar/000000.png"]
    reasons = {each.path.removeprefix("images/image "): each.reason for each in found.rejected}
    assert reasons.pop("1") == "it was not given: KeyError: 'gone'"
    assert reasons.pop("2") == "no image, but a int"
    assert "too small" in reasons.pop("3")
    assert "give the dataset without Normalize" in reasons.pop("4")
    assert reasons.pop("5") == "no image in 'label'" and not reasons


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (lambda: IMAGES[0], "looks like one image"),
        (lambda: IMAGES[0, ..., 0], "looks like one image"),
        (lambda: PICTURES[0], "is one picture"),
        (lambda: IMAGES[..., None].repeat(2, -1), "is a folder or file|no image"),
        (lambda: np.zeros((4, 40, 40, 7), np.uint8), r"images are \(n, height, width, 3\)"),
        (lambda: 7, "this is a int"),
        (lambda: DataLoader(Mapped()), r"dataset=loader\.dataset"),
        (lambda: torch.randn(200, 3, 40, 40), "give the dataset without Normalize"),
        (lambda: Mapped(lambda image: np.asarray(image).astype(np.float32)), "in floating point"),
        (lambda: Mapped(lambda image: np.asarray(image).astype(np.int64)), "as uint8 or uint16"),
        (list, "holds no image"),
        (lambda: iter(()), "holds no image"),
        (dict, "holds no image"),
        (lambda: (1 / (5 - n) for n in range(10)), "ended after 5 images with ZeroDivision|float"),
    ],
)
def test_what_is_no_dataset_is_refused_in_a_sentence(
    dataset: Callable[[], Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says) as error:
        discover(dataset(), run=tmp_path / "run", **OPTIONS)
    assert len(str(error.value)) < 600 and not (tmp_path / "run").exists()


def test_an_endless_iterable_ends_at_the_limit_or_the_disk(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = discover(
        (each for each in itertools.cycle(IMAGES)), run=tmp_path / "run", limit=12, **OPTIONS
    )
    assert len(run.table("images")) == 12
    monkeypatch.setattr(store, "LOOK", 100_000)
    asked = iter([10**12, 10**12])

    class Usage:
        @property
        def free(self) -> int:
            return next(asked, 0)

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    with pytest.raises(UserError, match=r"are left there: .*or take fewer images \(limit\)"):
        discover((each for each in itertools.cycle(IMAGES)), **OPTIONS)
    assert len(tars(spool)) == 1 and not list(spool.glob("given*"))


def test_random_transforms_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "concordance")
    rng = np.random.default_rng(0)
    found = given(Mapped(lambda image: np.asarray(image) ^ np.uint8(rng.integers(1, 255))))
    assert len(found.images) == 24 and "gave other images when it was asked again" in caplog.text


GENERATED = """
import sys, time
import numpy as np
from pipeline.images.spooled.given_source import give_images
def images():
    for seed in range(24):
        print(seed, flush=True)
        time.sleep(0.02)
        yield np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)
give_images(images())
"""


def test_what_a_killed_program_left_is_removed_by_the_next(spool: Path) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", GENERATED], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert job.stdout is not None
    for line in job.stdout:
        if line.strip() == "9":
            break
    other = given(each for each in IMAGES)  # while that one lives its folder stays
    assert len(other.images) == 24 and list(spool.glob("given*"))
    job.kill()
    assert job.wait() == -signal.SIGKILL
    job.stdout.close()
    assert list(spool.glob("given*"))
    given(each for each in IMAGES)
    assert not list(spool.glob("given*")) and len(tars(spool)) == 1


def test_text_that_is_no_path_is_not_spooled() -> None:
    with pytest.raises(UserError, match="does not exist"):
        discover("no-such-folder", **OPTIONS)
