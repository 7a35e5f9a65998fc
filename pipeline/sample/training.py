"""Trains the sample's networks on freshly rendered scenes; the same bytes on the same machine.

Only the class of each scene is told, never a mask. Scenes, initial weights, order and augmentation
follow from the seed. On one machine, with the same number of threads, a second training ends in the
same file; elsewhere sums may round differently, as processors without bfloat16 use float32, and the
accuracy is within a point.

The shipped weights are those of `RECIPES`, by `make sample-model` and `make sample-model ARCH=vit`:
6,400 scenes each. Of 600 held-out scenes the convolutional network gets 99.0 % right, after 19
minutes on two cores that were busy with other work as well; the transformer
99.5 %, after 30 minutes of one core.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from ..system import files
from . import network as convolutional
from . import transformer
from .batches import SceneSet, augmented, normalised, render_set
from .network import SampleNet
from .objects import CLASSES
from .scenes import GENERATOR_VERSION
from .transformer import SampleViT

TRAIN_SEED = 1_000_000  # the recipe's seed is added; no other scenes of the project start so high
HELD_OUT_SEED = 2_000_000
N_HELD_OUT = 600

Log = Callable[[str], None]
Arch = Literal["cnn", "vit"]
Classifier = SampleNet | SampleViT


@dataclass(frozen=True)
class Recipe:
    """What a training is made of; the defaults made the shipped weights of the CNN.

    Attributes
    ----------
    arch : {'cnn', 'vit'}
        The convolutional network or the transformer.
    seed : int
        Decides the scenes, the initial weights and every draw of the training.
    n_scenes, epochs, batch_size : int
        Rendered scenes, how often each is seen, and how many at a time.
    learning_rate, weight_decay : float
        Peak of the one-cycle schedule, and AdamW's decay.
    sparsity : float
        Weight that the mean activation of the last layer (an L1 norm, as it is not negative) has
        in the loss when the training ends; it grows from nothing. Cells without evidence fall
        silent: parts and objects stand out from what is around them.
    clipped : float
        Longest gradient of a step; 0: any.
    threads, workers : int
        Threads of the training, processes of the rendering; only the former can change a bit.
    """

    arch: Arch = "cnn"
    seed: int = 0
    n_scenes: int = 6400
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    sparsity: float = 0.3
    clipped: float = 0.0
    threads: int = 2
    workers: int = 2


RECIPES: dict[Arch, Recipe] = {
    "cnn": Recipe(),
    "vit": Recipe("vit", epochs=16, learning_rate=1.5e-3, clipped=1.0, threads=1),
}
"""How the shipped weights were made."""

WEIGHTS: dict[Arch, Path] = {"cnn": convolutional.WEIGHTS, "vit": transformer.WEIGHTS}


def train(
    recipe: Recipe,
    log: Log = print,
    *,
    scenes: SceneSet | None = None,
    start: Classifier | None = None,
) -> Classifier:
    """Render the scenes and train a network on them.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    log : callable
        Takes one line per epoch.
    scenes : SceneSet, optional
        What to train on; by default it is rendered from the recipe's seed.
    start : SampleNet or SampleViT, optional
        Where to start; by default from weights drawn by the recipe's seed. Left as it is.

    Returns
    -------
    SampleNet or SampleViT
        The trained network, float32, in evaluation mode.
    """
    if scenes is None:
        seed = TRAIN_SEED + recipe.seed
        scenes = render_set(seed, recipe.n_scenes, workers=recipe.workers)
        log(f"rendered {recipe.n_scenes} scenes")
    with _threads(recipe.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _new(recipe.arch) if start is None else copy.deepcopy(start)
        network = network.to(memory_format=torch.channels_last)
        _fit(network, scenes, recipe, log)
    return network.to(memory_format=torch.contiguous_format).eval()


def accuracy(network: Classifier, scenes: SceneSet, batch_size: int = 100) -> float:
    """Return the share of scenes whose class the network names, in float32."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(scenes.classes), batch_size):
            chosen = slice(start, start + batch_size)
            found = network(normalised(scenes.images[chosen])).argmax(1)
            right += int((found == scenes.classes[chosen]).sum())
    return right / len(scenes.classes)


def save(network: Classifier, recipe: Recipe, path: Path) -> None:
    """Write the weights as safetensors, float32, with the recipe in the file's metadata."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    made = json.dumps({"generator_version": GENERATOR_VERSION, **asdict(recipe)})
    files.write_bytes(path, safetensors.torch.save(state, {"recipe": made}))


def _new(arch: Arch) -> Classifier:
    """Return a network to train; the transformer's stem begins as the shipped CNN's."""
    if arch == "cnn":
        return SampleNet()
    network, shipped = SampleViT(), convolutional.load()
    for part, known in zip(
        network.stem, (shipped.stem, shipped.edges, shipped.shapes), strict=False
    ):
        part.load_state_dict(known.state_dict())
    return network


class _Trainee(nn.Module):
    """A network in training: its logits, and the mean activation of its last layer of parts.

    A class token could carry all there is to say, and positions nothing. So a transformer's also
    answer by their mean, through a layer that only the training has.
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network
        self.by_mean = nn.Linear(transformer.N_PARTS, len(CLASSES))

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        if isinstance(self.network, SampleNet):
            maps = self.network.maps(images)
            return [self.network.classify(maps)], maps.float().mean()
        tokens = self.network.tokens(images)
        positions = tokens[:, 1:].float()
        return [self.network.classify(tokens), self.by_mean(positions.mean(1))], positions.mean()


def _fit(network: Classifier, scenes: SceneSet, recipe: Recipe, log: Log) -> None:
    trainee = _Trainee(network)
    draw = torch.Generator().manual_seed(recipe.seed)
    # Where processors have no instruction for it, bfloat16 takes five times as long as float32.
    fast = torch.cpu._is_avx512_bf16_supported()
    optimiser = torch.optim.AdamW(
        (trainee if recipe.arch == "vit" else network).parameters(),
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    size = min(recipe.batch_size, len(scenes.classes))
    batches = len(scenes.classes) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * batches, pct_start=0.2
    )
    network.train()
    for epoch in range(1, recipe.epochs + 1):
        order = torch.randperm(len(scenes.classes), generator=draw)
        total, right = 0.0, 0
        for batch in range(batches):
            pressure = recipe.sparsity * ((epoch - 1) * batches + batch) / (recipe.epochs * batches)
            chosen = order[batch * size : (batch + 1) * size]
            images = augmented(normalised(scenes.images[chosen]), draw)
            classes = scenes.classes[chosen]
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                answers, strength = trainee(images)
            losses = [functional.cross_entropy(each.float(), classes) for each in answers]
            (sum(losses) + pressure * strength).backward()
            if recipe.clipped:
                nn.utils.clip_grad_norm_(trainee.parameters(), recipe.clipped)
            optimiser.step()
            schedule.step()
            total += float(losses[0].detach())
            right += int((answers[0].argmax(1) == classes).sum())
        share = right / (batches * size)
        log(f"epoch {epoch}/{recipe.epochs}: loss {total / batches:.3f}, right {share:.1%}")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def retrain(
    out: Path | None,
    log: Log,
    *,
    arch: Arch = "cnn",
    n_held_out: int = N_HELD_OUT,
    **recipe: int,
) -> float:
    """Train a network of the sample anew, write its weights and measure it on fresh scenes.

    Parameters
    ----------
    out : Path, optional
        Where the weights go; the shipped ones are replaced by default.
    log : callable
        Takes a line at a time.
    arch : {'cnn', 'vit'}
        Which one.
    n_held_out : int
        Scenes it is measured on.
    **recipe
        As of `Recipe`; by default those of `RECIPES`.

    Returns
    -------
    float
        Share of the held-out scenes that it gets right.
    """
    how = replace(RECIPES[arch], **recipe)  # type: ignore[arg-type]  # of numbers alone
    out, start = out or WEIGHTS[arch], time.monotonic()

    def timed(line: str) -> None:
        log(f"{time.monotonic() - start:6.0f} s  {line}")

    log(", ".join(f"{name} {value}" for name, value in asdict(how).items()))
    files.check_writable(out.parent)
    network = train(how, timed)
    save(network, how, out)
    score = accuracy(network, render_set(HELD_OUT_SEED, n_held_out, workers=how.workers))
    timed(f"{out}: {score:.1%} of {n_held_out} held-out scenes right")
    return score
