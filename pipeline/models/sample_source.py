"""The network of the bundled sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..config import SAMPLE
from ..sample import network as sample
from ..system.checksums import sha256
from . import architecture
from .fitting import fill_from
from .network import Network
from .source import RANDOM, Wanted
from .weights import digest


class SampleSource:
    """One network, ``sample``; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List the one name."""
        return [SAMPLE]

    def load(self, name: str, wanted: Wanted) -> Network:
        """Load the shipped weights, those of a file, or random ones."""
        module, notes = sample.SampleNet(), list[str]()
        if wanted.weights == RANDOM:
            architecture.reset(module, wanted.seed)
            source, sha = wanted.drawn, digest(module.state_dict())
        else:
            file = wanted.weights or sample.WEIGHTS
            notes = fill_from(module, replace(wanted, weights=file), name)
            source, sha = file.name, sha256(file)
        return Network(
            name=name,
            module=module,
            image_size=wanted.image_size or sample.IMAGE_SIZE,
            mean=sample.MEAN,
            std=sample.STD,
            classes=sample.CLASSES,
            weights_sha256=sha,
            weights_source=source,
            notes=tuple(notes),
        )


SOURCE = SampleSource()
