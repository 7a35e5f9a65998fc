"""Datasets of the hub and of torchvision are fetched by their own code, from a server here."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from huggingface_hub import constants
from scipy.io import savemat

from pipeline import checkout
from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import list_dataset, read_image
from pipeline.images.source import open_dataset
from pipeline.images.spooled import store
from pipeline.images.spooled.torchvision_sets import choose_splits
from pipeline.jobs.discover import discover
from tests.images.spooled import OPTIONS, ROOT, picture, pixels, write_shards

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


class Server:
    """An HTTP server on loopback that gives files by their paths, and notes what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(f"{self.command} {path}")
                data, headers = outer.files.get(path, (b"", {"X-Error-Code": "EntryNotFound"}))
                if path.startswith("/api") and path not in outer.files:
                    code = "RevisionNotFound" if "/revision/" in path else "RepoNotFound"
                    headers = {"X-Error-Code": code}
                self.send_response(200 if path in outer.files else 404)
                for name, value in (headers | {"Content-Length": str(len(data))}).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hub(
        self, repo: str, files: Mapping[str, bytes], sha: str = SHA, revision: str | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Give a dataset as the hub does, at a revision or as the newest."""
        info = {
            "_id": "1", "id": repo, "sha": sha, "private": False, "gated": False, "tags": [],
            "downloads": 0, "likes": 0, "lastModified": "2024-01-01T00:00:00.000Z",
            "cardData": card,
            "siblings": [{"rfilename": name, "size": len(data)} for name, data in files.items()],
        }  # fmt: skip
        data = json.dumps(info).encode(), {"Content-Type": "application/json"}
        if revision is None:
            self.files[f"/api/datasets/{repo}"] = data
        else:
            self.files[f"/api/datasets/{repo}/revision/{revision.replace('/', '%2F')}"] = data
        self.files[f"/api/datasets/{repo}/revision/{sha}"] = data
        for name, content in files.items():
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"X-Repo-Commit": sha, "ETag": etag}
            self.files[f"/datasets/{repo}/resolve/{sha}/{name}"] = content, headers


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a folder of its own to spool into."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "spooled"))
    monkeypatch.setattr(checkout, "folder", lambda name: tmp_path / "data" / name)
    return tmp_path / "spooled"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Give every test a cache of its own, and the hub's package what it reads when it is loaded."""
    caplog.set_level("INFO", "concordance")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hf"), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def listed(where: str, url: str = "") -> dict[str, Any]:
    """List a dataset, a server taken for the hub; without one there is no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", url or AWAY)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", (url or AWAY) + "".join(template[1:])
        )
        patch.setattr(constants, "HF_HUB_OFFLINE", not url)
        try:
            found = list_dataset(where)
        except UserError as error:
            return {"error": str(error)}
        opened = open_dataset(found.kind, found.source.where)
        assert all(opened.read(each) == found.source.read(each) for each in found.images)
        images = [(each.path, each.label, each.split) for each in found.images]
    return {"images": images, "where": found.source.where, "name": found.name}


AWAY = "http://127.0.0.1:9"


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, bytes]:
    write_shards(tmp_path / "pets")
    return {path.name: path.read_bytes() for path in (tmp_path / "pets").iterdir()}


def test_a_dataset_of_the_hub_is_fetched_once_and_found_without_it(
    server: Server, shards: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    server.hub("me/pets", {f"data/{name}": data for name, data in shards.items()})
    found = listed("hf:me/pets", server.url)
    assert len(found["images"]) == 24 and found["name"] == "pets"
    assert found["where"] == f"me/pets@{SHA}"
    path, label, split = found["images"][9]
    assert path == "train-00001-of-00002.tar/000001.jpg" and (label, split) == ("dog", "train")
    assert "GB, into" in caplog.text and "once: images are read there" in caplog.text
    n_gets = sum(each.startswith("GET /datasets/") for each in server.asked)
    assert n_gets == 3
    again = listed("hf:me/pets", server.url)
    assert again["images"] == found["images"]
    assert sum(each.startswith("GET /datasets/") for each in server.asked) == 3
    # A commit that is spooled needs no hub; the newest is taken as it was when there is none.
    n_asked = len(server.asked)
    pinned = listed(f"hf:{found['where']}")
    assert pinned["images"] == found["images"] and len(server.asked) == n_asked
    for url in ("", AWAY):
        caplog.clear()
        assert listed("hf:me/pets", url)["images"] == found["images"]
        assert "the hub cannot be reached" in caplog.text


def test_a_new_commit_is_another_dataset(server: Server, shards: dict[str, bytes]) -> None:
    server.hub("me/pets", shards)
    first = listed("hf:me/pets", server.url)
    server.hub("me/pets", dict(list(shards.items())[:1]), sha=OTHER)
    second = listed("hf:me/pets", server.url)
    assert second["where"].endswith(OTHER) and len(second["images"]) == 8
    assert listed(f"hf:me/pets@{SHA}", server.url)["images"] == first["images"]


def test_what_the_hub_has_converted(server: Server, shards: dict[str, bytes]) -> None:
    train, _, test = (shards[name] for name in sorted(shards))
    server.hub("me/pets", {"README.md": b"x", "pets.zip": b"x"})
    converted = {
        "large/train/0000.parquet": train, "large/test/0000.parquet": test,
        "small/partial-train/0000.parquet": train,
    }  # fmt: skip
    server.hub("me/pets", converted, sha=OTHER, revision="refs/convert/parquet")
    several = listed("hf:me/pets", server.url)["error"]
    assert "it holds several datasets, large, small; give one, as" in several
    large = listed("hf:me/pets/large", server.url)
    assert len(large["images"]) == 16 and {each[2] for each in large["images"]} == {"train", "test"}
    one = listed("hf:me/pets/large:test", server.url)
    assert {each[2] for each in one["images"]} == {"test"} and len(one["images"]) == 8
    small = listed("hf:me/pets/small", server.url)
    assert {each[2] for each in small["images"]} == {"train"}
    error = listed("hf:me/pets/large:vald", server.url)["error"]
    assert "it has no split 'vald'; there are test, train" in error
    assert "did you mean 'small'" in listed("hf:me/pets/smal", server.url)["error"]


def test_a_card_says_what_belongs_together(server: Server, shards: dict[str, bytes]) -> None:
    first, second, third = (shards[name] for name in sorted(shards))
    files = {"a/x-1.parquet": first, "a/y.parquet": second, "b/z.parquet": third}
    card = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "a/x-*.parquet"},
                    {"split": "validation", "path": ["a/y.parquet"]},
                ],
            },
            {"config_name": "other", "data_files": "b/*.parquet"},
        ]
    }
    server.hub("pets", files, card=card)  # of the times before owners
    found = listed("hf:pets", server.url)
    assert len(found["images"]) == 16 and {each[2] for each in found["images"]} == {"train", "val"}
    for name in ("validation", "val"):
        assert len(listed(f"hf:pets:{name}", server.url)["images"]) == 8
    server.hub("me/pets", files)
    assert len(listed("hf:me/pets/a", server.url)["images"]) == 16


def test_what_the_hub_has_not_is_said(server: Server) -> None:
    error = listed("hf:me/none", server.url)["error"]
    assert "the hub has no such dataset, or not for you" in error
    server.hub("me/text", {"a.csv": b"x"})
    error = listed("hf:me/text", server.url)["error"]
    assert "has no Parquet files, and the hub has not made any of it" in error
    assert "no revision 'v9'" in listed("hf:me/text@v9", server.url)["error"]
    assert "is no name of a dataset" in listed("hf::train", server.url)["error"]
    for url in ("", AWAY):
        error = listed("hf:me/pets", url)["error"]
        assert "cannot be fetched" in error and "hf download --repo-type dataset me/pets" in error
    server.hub("me/bad", {"x.parquet": b"PAR1 nothing PAR1"})
    error = listed("hf:me/bad", server.url)["error"]
    assert "cannot be read as Parquet" in error and "fetch it again" in error


@pytest.mark.slow
def test_a_job_on_the_hub_is_found_again(
    server: Server, shards: dict[str, bytes], tmp_path: Path
) -> None:
    server.hub("me/pets", shards)
    run = tmp_path / "run"
    stage = [sys.executable, "-m", "stages.discover", f"--run={run}"]
    more = ["--dataset=hf:me/pets", "--model=sample", "--image-size=64", "--k=2"]
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf")}
    for arguments in (more, []):
        done = subprocess.run(
            [*stage, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        environment["HF_HUB_OFFLINE"] = "1"
    opened = open_run(run)
    assert f'dataset = "hf:me/pets@{SHA}"' in (run / "config.toml").read_text()
    assert np.array_equal(opened.image("train-00000-of-00002.tar/000003.png"), pixels(3))


def idx(values: np.ndarray[Any, Any]) -> bytes:
    """Return an array as MNIST's files hold them."""
    head = bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return gzip.compress(head + values.astype(np.uint8).tobytes())


def test_a_dataset_like_mnist_is_fetched_by_torchvision(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.stack([pixels(seed)[:28, :28, 0] for seed in range(24)])
    labels = np.arange(24) % 10
    files = {
        "train-images-idx3-ubyte.gz": idx(images[:16]),
        "train-labels-idx1-ubyte.gz": idx(labels[:16]),
        "t10k-images-idx3-ubyte.gz": idx(images[16:]),
        "t10k-labels-idx1-ubyte.gz": idx(labels[16:]),
    }  # fmt: skip
    kind = torchvision.datasets.FashionMNIST
    monkeypatch.setattr(kind, "mirrors", [f"{server.url}/"])
    md5 = [(name, hashlib.md5(data).hexdigest()) for name, data in files.items()]
    monkeypatch.setattr(kind, "resources", md5)
    server.files |= {f"/{name}": (data, {}) for name, data in files.items()}
    run = discover("torchvision:FashionMNIST", run=tmp_path / "run", **OPTIONS)
    found = list_dataset("torchvision:FashionMNIST")
    assert {each.split for each in found.images} == {"train", "test"}
    assert found.images[0].path == "test.tar/000000.png"
    assert found.images[8].label == kind.classes[0] and len(found.images) == 24
    for each, values in zip(found.images, np.concatenate([images[16:], images[:16]]), strict=True):
        assert np.array_equal(read_image(found.source, each)[0][1].numpy(), values)
    assert len(set(server.asked)) == 4
    # Only what was written is needed from then on: neither torchvision's files nor its code.
    monkeypatch.setattr(kind, "__init__", None)
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert list_dataset("torchvision:FashionMNIST").images == found.images
    image = open_run(run.folder).image("train.tar/000002.png")
    assert np.array_equal(image[..., 0], images[2])
    only = list_dataset("torchvision:FashionMNIST", split="test")
    assert len(only.images) == 8


def test_a_dataset_like_cifar_is_fetched_by_torchvision(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = torchvision.datasets.CIFAR10
    images = np.stack([pixels(seed, 32) for seed in range(8)])
    buffer = io.BytesIO()
    sums: dict[str, str] = {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, value: object) -> None:
            data = pickle.dumps(value)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            sums[name] = hashlib.md5(data).hexdigest()

        flat = images.transpose(0, 3, 1, 2).reshape(8, -1)
        add("data_batch_1", {"data": flat[:6], "labels": [0, 1, 2, 3, 4, 5]})
        add("test_batch", {"data": flat[6:], "labels": [6, 7]})
        add("batches.meta", {"label_names": [f"class {n}" for n in range(10)]})
    data = buffer.getvalue()
    monkeypatch.setattr(kind, "url", f"{server.url}/cifar.tar.gz")
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(data).hexdigest())
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["batches.meta"]})
    server.files["/cifar.tar.gz"] = data, {}
    found = list_dataset("torchvision:CIFAR10")
    assert {each.path: each.label for each in found.images} == {
        f"{'test' if n >= 6 else 'train'}.tar/{n % 6:06}.png": f"class {n}" for n in range(8)
    }
    shown = [read_image(found.source, each)[0].permute(1, 2, 0).numpy() for each in found.images]
    assert np.array_equal(np.stack(shown), np.concatenate([images[6:], images[:6]]))
    one = list_dataset("torchvision:CIFAR10?train=False")
    assert len(one.images) == 2 and {each.split for each in one.images} == {"test"}


def test_files_that_torchvision_reads_are_kept_as_they_are(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = torchvision.datasets.Flowers102
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number in range(1, 10):
            info = tarfile.TarInfo(f"jpg/image_{number:05}.jpg")
            info.size = len(picture(number, "JPEG"))
            archive.addfile(info, io.BytesIO(picture(number, "JPEG")))
    mats = []
    for values in ({"labels": np.arange(1, 10)}, {"trnid": [1, 2, 3], "valid": [4, 5, 6],
                                                  "tstid": [7, 8, 9]}):  # fmt: skip
        mat = io.BytesIO()
        savemat(mat, values)
        mats.append(mat.getvalue())
    files = {"102flowers.tgz": buffer.getvalue(), "imagelabels.mat": mats[0], "setid.mat": mats[1]}
    names = {"image": "102flowers.tgz", "label": "imagelabels.mat", "setid": "setid.mat"}
    monkeypatch.setattr(
        kind, "_file_dict",
        {key: (name, hashlib.md5(files[name]).hexdigest()) for key, name in names.items()},
    )  # fmt: skip
    monkeypatch.setattr(kind, "_download_url_prefix", f"{server.url}/")
    server.files |= {f"/{name}": (data, {}) for name, data in files.items()}
    found = list_dataset("torchvision:Flowers102")
    assert {each.split for each in found.images} == {"train", "val", "test"}
    assert len(found.images) == 9
    for each in found.images:
        number = int(each.path[-6:-4])
        assert each.path.endswith(f"/flowers-102/jpg/image_{number:05}.jpg")
        assert found.source.read(each) == picture(number, "JPEG")
        assert each.label == kind.classes[number - 1] if hasattr(kind, "classes") else True


def test_made_up_data_and_arguments(tmp_path: Path) -> None:
    where = "torchvision:FakeData?size=24&image_size=3,40,40&num_classes=3"
    run = discover(where, run=tmp_path / "run", **OPTIONS)
    frame = run.table("images")
    assert set(frame.label) == {"0", "1", "2"} and len(frame) == 24
    expected = torchvision.datasets.FakeData(24, (3, 40, 40), 3)
    image = open_run(run.folder).image("images.tar/000004.png")
    assert np.array_equal(image, np.asarray(expected[4][0]))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("CIFAR1", "torchvision has no dataset 'CIFAR1'; did you mean 'CIFAR10'"),
        ("VisionDataset", "torchvision has no dataset"),
        ("CIFAR10?trian=True", "takes no 'trian'; did you mean 'train'"),
        ("CIFAR10?train=maybe", "train is like True, not 'maybe'"),
        ("CIFAR10?root=/etc", "takes no 'root'"),
        ("FakeData?size=many", "size is like 1000, not 'many'"),
        ("EMNIST", "several datasets: byclass, bymerge, .*EMNIST.split=byclass"),
        ("UCF101", "needs annotation_path and frames_per_clip: give"),
        ("ImageNet", "cannot be had .*copy what it fetches to .*data/torchvision/ImageNet"),
    ],
)
def test_what_torchvision_has_not_is_said(where: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        list_dataset(f"torchvision:{where}")


@pytest.mark.parametrize(
    ("valid", "default", "taken"),
    [
        (["train", "val", "trainval", "test"], "trainval", ["train", "val", "test"]),
        (["trainval", "test"], "trainval", ["trainval", "test"]),
        (["train", "test", "extra"], "train", ["train", "test"]),
        (["10fold", "train", "test"], "10fold", ["train", "test"]),
        (["train", "train+unlabeled", "unlabeled", "test"], "train", ["train", "test"]),
        (["train-standard", "train-challenge", "val"], "train-standard", ["train-standard", "val"]),
        ([], "all", ["all"]),
    ],
)
def test_splits_that_share_no_image(valid: list[str], default: str, taken: list[str]) -> None:
    assert choose_splits(valid, default) == taken
