"""What every family of networks comes to: its layers, a run to the atlas, an image explained.

Weights are drawn, for what is asked is whether a network can be taken at all, and how long that
takes. A row says how many layers can be cut, the layer that is taken, by how much its head differs
from the network (over the largest logit), and the seconds of each step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.harness import introduce, show
from pipeline import describe_layers, discover, explain
from pipeline.errors import UserError
from pipeline.models import cut, give, load_network
from pipeline.sample import write_sample

TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t", "swin_v2_t", "vgg11", "vit_b_32", "wide_resnet50_2", "fcn_resnet50",
    "deeplabv3_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_fpn",
    "ssdlite320_mobilenet_v3_large",
)  # fmt: skip
TIMM = (
    "vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "beit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "convnextv2_atto", "tf_efficientnet_lite0",
    "mobilenetv4_conv_small", "resnetv2_50", "regnety_002", "maxvit_rmlp_pico_rw_256",
    "mixer_s32_224", "resmlp_12_224", "cait_xxs24_224", "dm_nfnet_f0", "hrnet_w18_small",
    "repvgg_a0", "edgenext_xx_small", "fastvit_t8", "xcit_nano_12_p16_224", "poolformer_s12",
    "levit_128s", "tiny_vit_5m_224",
)  # fmt: skip
N_IMAGES = 24

OWN = """
import torch
from torch import nn


def make():
    trunk = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
"""

Options = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Try every network; return 1 where one could not be taken."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", action="append", help="networks whose names hold it; repeatable")
    given = parser.parse_args(argv)
    introduce(quick=False)
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder / "sample", n_images=N_IMAGES, size=64)
        for called, options in _networks(folder):
            if given.only and not any(each in called for each in given.only):
                continue
            try:
                rows.append([called, *_tried(options, folder)])
            except UserError as error:
                failed += 1
                rows.append([called, "-", str(error)[:60], "-", "-", "-", "-"])
            print(*rows[-1], file=sys.stderr, flush=True)
    header = ["network", "layers", "taken", "head off by", "layers, s", "discover, s", "explain, s"]
    show("networks with drawn weights", header, rows)
    print(f"{len(rows) - failed} of {len(rows)} networks were taken to the atlas")
    return int(failed > 0)


def _networks(folder: Path) -> Iterator[tuple[str, Options]]:
    for name in TORCHVISION:
        yield name, {"model": name, "weights": "random"}
    for name in TIMM:
        yield f"timm:{name}", {"model": f"timm:{name}", "weights": "random"}
    for kind, make in _hugging_face().items():
        torch.manual_seed(0)
        make().save_pretrained(folder / kind)
        yield f"hf:{kind}", {"model": f"hf:{folder / kind}"}
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    yield "own.py:make", {"model": f"{folder / 'own.py'}:make"}
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(num_classes=7)
    yield "network=, layer=", {"network": resnet, "layer": resnet.layer3}


def _hugging_face() -> dict[str, Callable[[], Any]]:
    hf: Any = import_module("transformers")
    tiny = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    swin = {"embed_dim": 24, "depths": [1, 1, 2, 1]}
    sizes = {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1]}
    return {
        "resnet": lambda: hf.ResNetForImageClassification(hf.ResNetConfig(**sizes)),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**tiny)),
        "convnext": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(**sizes)),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**tiny)),
        "swin": lambda: hf.SwinForImageClassification(hf.SwinConfig(**swin)),
    }


def _tried(options: Options, folder: Path) -> list[object]:
    images = folder / "sample" / "images"
    run = Path(tempfile.mkdtemp(dir=folder))
    start = time.perf_counter()
    known = dict(options)
    if "network" in known:
        known = give({"layer": known["layer"]}, known["network"])
    weights = Path(known["weights"]) if "weights" in known else None
    table = describe_layers(known["model"], weights)
    n_usable = int(table["usable"].sum())
    listed = time.perf_counter()
    made = cut(load_network(known["model"], weights), known.get("layer", "auto"))
    off = _difference(made)
    before = time.perf_counter()
    discover(images, run=run / "run", k=3, limit=N_IMAGES, **options)
    done = time.perf_counter()
    explain(next(images.rglob("*.jpg")), k=3, **options)
    ended = time.perf_counter()
    return [n_usable, made.layer, off, listed - start, done - before, ended - done]


def _difference(made: Any) -> object:
    if not made.n_classes:
        return "no head"
    size = made.network.image_size
    shape = (2, 3, size, size) if isinstance(size, int) else (2, 3, *size)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    forward = made.forward(images.to(torch.uint8))
    answer = made.head(forward.V, forward.prefix)
    return float((answer - forward.logits).abs().max() / forward.logits.abs().max())


if __name__ == "__main__":
    sys.exit(main())
