"""The process that reads damaged files: it may die of one, and whoever asks it counts that.

A line of JSON on the standard input names a target and a path; a line of JSON answers.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline import open_run, status, verify
from pipeline.errors import UserError
from pipeline.images import list_dataset, sides
from pipeline.images import read_image as read_image_of
from pipeline.images.decode import decode_bytes
from pipeline.images.limits import DecodeError
from pipeline.images.source import ImageRecord, Rejected, Remark
from pipeline.images.spooled.store import VARIABLE
from pipeline.images.table import open_table
from pipeline.models import cut, load_network
from pipeline.models.checkpoints import read_state
from pipeline.truth import UnfitError, find_truth

SECONDS = 60
"""For one file; the machine may be busy with other things."""


def read_image(path: Path) -> str:
    """Decode an image; what comes is an image."""
    pixels = decode_bytes(path.read_bytes()).pixels
    assert pixels.dtype.is_floating_point is False
    assert pixels.ndim == 3
    assert pixels.shape[0] == 3
    assert min(pixels.shape[1:]) >= 8
    return str(tuple(pixels.shape))


def read_table(path: Path) -> str:
    """Look up the images of a table; each is one of the things that there are."""
    found = list(open_table(str(path)).images())
    assert all(isinstance(each, ImageRecord | Rejected | Remark) for each in found)
    return f"{len(found)} rows"


def read_archive(path: Path) -> str:
    """List an archive and decode its images; none is read from outside it."""
    found = list_dataset(path)
    n_read = 0
    for image in found.images:
        try:
            pixels, _ = read_image_of(found.source, image)
        except DecodeError:
            continue
        assert pixels.ndim == 3
        n_read += 1
    return f"{n_read} of {len(found.images)} images"


def read_spooled(path: Path) -> str:
    """Spool images in rows and decode them; what is spooled of one file goes before the next."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = folder
        kind = "numpy" if path.suffix.startswith(".n") else "parquet"
        found = list_dataset(f"{kind}:{path}")
        for image in found.images:
            with contextlib.suppress(DecodeError):
                read_image_of(found.source, image)
        return f"{len(found.images)} images, {len(found.rejected)} refused"


def read_truth(path: Path) -> str:
    """Read boxes, COCO's JSON or a mask, for an image that has some."""
    size = (48, 40)
    where = path if path.suffix in (".csv", ".json") else path.parent
    known = find_truth(where).of({"a.jpg": size, "b.jpg": size}, lambda _: 6)
    found = []
    for image in known.matched.found:
        try:
            truth = known.read(image, size, lambda _: 6)
        except UnfitError:
            continue
        assert truth.labels is None or truth.labels.shape == size[::-1]
        found.append(len(truth.boxes))
    return f"{found} boxes"


def read_weights(path: Path) -> str:
    """Read weights; what comes is tensors by name that can be computed with."""
    state = read_state(path)
    assert all(isinstance(name, str) for name in state)
    total = sum(float(tensor.double().nan_to_num().sum()) for tensor in state.values())
    return f"{len(state)} tensors, {total:.3g}"


def read_program(path: Path) -> str:
    """Read a network that is a program, and cut it; what it answers has a row an image."""
    network = load_network(str(path))
    made = cut(network, "auto")
    images = torch.zeros(2, 3, *sides(network.image_size), dtype=torch.uint8)
    assert len(made.forward(images).logits) == 2
    return made.layer


def read_run(path: Path) -> str:
    """Ask a run for everything that is read from its files, each for itself."""
    done = []
    for name, question in QUESTIONS.items():
        try:
            question(path)
            done.append(name)
        except UserError as error:
            assert str(error).strip(), name
    return ", ".join(done)


def _maps(path: Path) -> None:
    run = open_run(path)
    image_id = int(run.workspace.listing.frame["image_id"].iloc[0])
    assert run.grid_heatmap(image_id).ndim == 3
    assert run.heatmap(image_id).ndim == 3
    assert run.residual(image_id).ndim == 2
    run.object_mask(image_id, refined=False)
    run.concept_map(image_id)


def _bank(path: Path) -> None:
    run = open_run(path)
    assert run.bank.W.ndim == 2
    run.bank.encode([np.zeros((64, 64, 3), np.uint8)])


QUESTIONS: dict[str, Callable[[Path], object]] = {
    "status": status,
    "verify": verify,
    "open": lambda path: repr(open_run(path)),
    "config": lambda path: open_run(path).workspace.config.model_dump_json(),
    "tables": lambda path: [
        open_run(path).table(name) for name in ("images", "concepts", "regions", "objects")
    ],
    "views": lambda path: open_run(path).images_with(0),
    "maps": _maps,
    "bank": _bank,
}

TARGETS: dict[str, Callable[[Path], str]] = {
    "image": read_image, "table": read_table, "weights": read_weights, "run": read_run,
    "program": read_program, "archive": read_archive, "truth": read_truth,
    "spooled": read_spooled,
}  # fmt: skip


def answer(target: str, path: Path) -> dict[str, object]:
    """Read a file; say what came, and how much memory it took at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this file
    before = _peak()
    try:
        said: dict[str, object] = {"value": TARGETS[target](path)}
    except (UserError, DecodeError) as error:
        said = {"refused": str(error)}
    except BaseException as error:
        import traceback

        said = {"fault": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return said | {"mb": (_peak() - before) >> 10}


def _peak() -> int:
    """Return the most memory this process has had, in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Answer until the input ends."""
    sys.setrecursionlimit(1000)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        target, path = json.loads(line)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        said = answer(target, Path(path))
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
