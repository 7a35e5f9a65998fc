"""Whole files of every kind that is read, small ones, for damage to be done to."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image, ImageCms
from scipy.io import savemat

import pipeline.images.formats  # noqa: F401, Pillow knows HEIF by it

ARCHIVE = Path(__file__).resolve().parents[1] / "archives" / "0.1.0"


def images() -> dict[str, bytes]:
    """Return images in the formats that are taken, in the modes that they come in."""
    path = sorted((ARCHIVE / "images").rglob("*.*"))[0]
    with Image.open(path) as opened:
        rgb = opened.convert("RGB").resize((48, 40))
    deep = Image.fromarray((np.asarray(rgb.convert("L"), np.uint16) * 257).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    palette, grey = rgb.quantize(16), rgb.convert("L")
    wanted: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", rgb, {}),
        ("JPEG", rgb, {"progressive": True, "exif": exif}),
        ("JPEG", rgb.convert("CMYK"), {}),
        ("PNG", rgb.convert("RGBA"), {}),
        ("PNG", deep, {}),
        ("PNG", palette, {}),
        ("GIF", palette, {"save_all": True, "append_images": [palette]}),
        ("WEBP", rgb, {"lossless": True}),
        ("WEBP", rgb, {"save_all": True, "append_images": [rgb]}),
        ("TIFF", rgb, {"compression": "tiff_lzw"}),
        ("TIFF", rgb, {"compression": "jpeg"}),
        ("TIFF", deep, {"compression": "tiff_deflate"}),
        ("TIFF", grey.convert("F"), {}),
        ("BMP", rgb, {}),
        ("BMP", palette, {}),
        ("PPM", rgb, {}),
        ("PPM", grey, {}),
        ("AVIF", rgb, {}),
        ("HEIF", rgb, {}),
        ("JPEG2000", rgb, {}),
        ("JPEG", rgb, {"icc_profile": srgb.tobytes().replace(b"sRGB", b"mine")}),
    ]
    found = {path.name: path.read_bytes()}
    for n, (kind, image, options) in enumerate(wanted):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found[f"{n}.{kind.lower()}"] = buffer.getvalue()
    return found


def tables() -> dict[str, bytes]:
    """Return tables of images in their three kinds."""
    frame = pd.DataFrame({"path": ["a.jpg", "b/c.png", "ü%20.jpg"], "label": ["x", None, "1"]})
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return {
        "t.csv": frame.to_csv(index=False).encode(),
        "t.tsv": frame.to_csv(index=False, sep="\t").encode(),
        "t.parquet": buffer.getvalue(),
        "t.jsonl": frame.to_json(orient="records", lines=True).encode(),
    }


def archives() -> dict[str, bytes]:
    """Return archives of images with their labels: tar, and zip in both ways of packing."""
    some = [data for name, data in images().items() if name.endswith("png")][:3]
    members = {f"cat/{index}.png": data for index, data in enumerate(some)}
    members |= {"cat/0.cls": b"3", "cat/1.json": b'{"label": "tabby"}', "read.me": b"words"}
    found = {}
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("packed.zip", zipfile.ZIP_DEFLATED)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for inside, data in members.items():
                archive.writestr(inside, data)
        found[name] = buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as shard:
        for inside, data in members.items():
            info = tarfile.TarInfo(inside)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    return found | {"shard.tar": buffer.getvalue()}


def spooled() -> dict[str, bytes]:
    """Return files with images in rows, with their labels: Parquet, Arrow, arrays of NumPy."""
    some = [data for name, data in images().items() if name.endswith("png")][:3]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": f"{index}.png"} for index, data in enumerate(some)]
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    said = {b"huggingface": json.dumps({"info": {"features": names}}).encode()}
    schema = pa.schema([("image", kind), ("label", pa.int64())], metadata=said)
    table = pa.table({"image": rows, "label": [0, 1, -1]}, schema=schema)
    parquet, stream, npy, npz = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=2)
    with pa.ipc.new_stream(stream, schema) as to:
        to.write_table(table, max_chunksize=2)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)
    np.save(npy, pixels)
    np.savez_compressed(npz, images=pixels, labels=np.arange(3))
    return {
        "x.parquet": parquet.getvalue(), "x.arrow": stream.getvalue(),
        "x.npy": npy.getvalue(), "x.npz": npz.getvalue(),
    }  # fmt: skip


def truths() -> dict[str, bytes]:
    """Return what is known of an image ``a.jpg`` of 48 × 40 pixels, in all kinds of files."""
    mask = np.zeros((40, 48), np.uint8)
    mask[5:30, 9:40] = 7
    numpy, matlab, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(numpy, mask)
    savemat(matlab, {"mask": mask})
    Image.fromarray(mask).save(png, "PNG")
    objects = [
        {
            "image_id": 1,
            "category_id": 2,
            "bbox": [1, 2, 9.5, 8],
            "segmentation": [[1, 2, 9, 2, 9, 9]],
        },
        {"image_id": 1, "segmentation": {"size": [40, 48], "counts": [100, 9, 1811]}},
        {"image_id": 1, "segmentation": {"size": [40, 48], "counts": "T39lh1"}, "iscrowd": 1},
    ]
    image = {"id": 1, "file_name": "a.jpg", "width": 48, "height": 40}
    return {
        "a.png": png.getvalue(), "a.npy": numpy.getvalue(), "a.mat": matlab.getvalue(),
        "boxes.csv": b"path,x0,y0,x1,y1\na.jpg,1,2,30,20.5\nb.jpg,5,6,7,8\n",
        "coco.json": json.dumps({"images": [image], "annotations": objects}).encode(),
    }  # fmt: skip


def weights() -> dict[str, bytes]:
    """Return archives of weights: of today's torch, of an old one, wrapped, and safetensors."""
    state = {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "norm.num_batches_tracked": torch.tensor(3),
        "half": torch.ones(5, dtype=torch.float16),
        "view": torch.arange(9.0)[::2],
    }
    found = {}
    for name, what, is_new in (
        ("plain.pt", state, True),
        ("old.pth", state, False),
        ("wrapped.pt", {"state_dict": state, "epoch": 3}, True),
    ):
        buffer = io.BytesIO()
        torch.save(what, buffer, _use_new_zipfile_serialization=is_new)
        found[name] = buffer.getvalue()
    dense = {name: tensor.contiguous() for name, tensor in state.items()}
    return found | {"plain.safetensors": safetensors.torch.save(dense)}


def programs() -> dict[str, bytes]:
    """Return a program of torch.export, of images of 16 pixels."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3),
    ).eval()  # fmt: skip
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=batch)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return {"network.pt2": buffer.getvalue()}


def entry_of(archive: bytes, entry: int) -> tuple[str, bytes]:
    """Return the name and contents of an entry of a zip file."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        infos = source.infolist()
        info = infos[entry % len(infos)]
        return info.filename, source.read(info)


def with_entry(archive: bytes, name: str, contents: bytes) -> bytes:
    """Return a zip file with other contents of an entry, and sums that are right."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target,
    ):
        for info in source.infolist():
            target.writestr(info.filename, contents if info.filename == name else source.read(info))
    return buffer.getvalue()
