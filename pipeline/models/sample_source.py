"""The networks of the bundled sample: one of convolutions, and a transformer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from ..config import SAMPLE
from ..errors import UserError, option
from ..images import sides
from ..sample import network as sample
from ..sample import transformer
from ..system.checksums import sha256
from . import architecture
from .checkpoints import read_checkpoint
from .fitting import fill_from
from .network import Network
from .source import RANDOM, Wanted
from .weights import digest, fill

VIT = f"{SAMPLE}-vit"


class SampleSource:
    """Two networks, ``sample`` and ``sample-vit``; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List their names."""
        return [SAMPLE, VIT]

    def load(self, name: str, wanted: Wanted) -> Network:
        """Load the shipped weights, those of a file, or random ones."""
        size, notes = wanted.image_size or sample.IMAGE_SIZE, list[str]()
        module: nn.Module = sample.SampleNet()
        if name == VIT:
            if any(side % transformer.PATCH for side in sides(size)):
                raise UserError(
                    f"{VIT} takes images of multiples of {transformer.PATCH} pixels: pass another"
                    f" {option('image_size')}"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(wanted.seed)
                module = transformer.SampleViT(size=sides(size))
        if wanted.weights == RANDOM:
            architecture.reset(module, wanted.seed)
            source, sha = wanted.drawn, digest(module.state_dict())
        else:
            file = wanted.weights or (transformer if name == VIT else sample).WEIGHTS
            if name == VIT:
                state, notes = read_checkpoint(file, wanted.weights_key)
                fill(module, transformer.fit_positions(dict(state), sides(size)), name, file)
            else:
                notes = fill_from(module, replace(wanted, weights=file), name)
            source, sha = file.name, sha256(file)
        return Network(
            name=name,
            module=module,
            image_size=size,
            mean=sample.MEAN,
            std=sample.STD,
            classes=sample.CLASSES,
            weights_sha256=sha,
            weights_source=source,
            notes=tuple(notes),
        )


SOURCE = SampleSource()
