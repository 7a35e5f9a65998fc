"""Trains the sample's network on freshly rendered scenes; the same bytes on the same machine.

Only the class of each scene is told, never a mask. Scenes, initial weights, order and augmentation
follow from the seed. On one machine, with the same number of threads, a second training ends in the
same file; elsewhere sums may round differently, as processors without bfloat16 use float32, and the
accuracy is within a point.

The shipped weights are the default recipe's, by `make sample-model`: 6,400 scenes, 20 epochs;
99.0 % of 600 held-out scenes right; 19 minutes on two cores that were busy with other work as well.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

from ..system import files
from ..system.processes import in_processes
from .network import IMAGE_SIZE, MEAN, STD, WEIGHTS, SampleNet
from .objects import CLASSES
from .scenes import GENERATOR_VERSION, Cue, Scene, render_scene

TRAIN_SEED = 1_000_000  # the recipe's seed is added; no other scenes of the project start so high
HELD_OUT_SEED = 2_000_000
N_HELD_OUT = 600
SHIFT = 12  # pixels by which a batch is moved at most, in both directions
FEW = 24  # fewer scenes are done sooner than worker processes start

Log = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a training is made of; the defaults made the shipped weights.

    Attributes
    ----------
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
    threads, workers : int
        Threads of the training, processes of the rendering; only the former can change a bit.
    """

    seed: int = 0
    n_scenes: int = 6400
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    sparsity: float = 0.3
    threads: int = 2
    workers: int = 2


@dataclass(frozen=True)
class SceneSet:
    """Images uint8 (n, 3, size, size) and their classes int64 (n,)."""

    images: torch.Tensor
    classes: torch.Tensor


def render_set(seed: int, n_scenes: int, size: int = IMAGE_SIZE, workers: int = 2) -> SceneSet:
    """Render scenes 0 … n - 1 of a seed, in worker processes where there are enough of them."""
    images = np.empty((n_scenes, 3, size, size), dtype=np.uint8)
    for index, scene in enumerate(render_scenes(seed, n_scenes, size, workers=workers)):
        images[index] = scene.image.transpose(2, 0, 1)
    return SceneSet(torch.from_numpy(images), torch.arange(n_scenes) % len(CLASSES))


def render_scenes(
    seed: int, n_scenes: int, size: int = IMAGE_SIZE, cue: Cue | None = None, workers: int = 2
) -> Iterator[Scene]:
    """Give scenes 0 … n - 1 of a seed in order; for the parameters see `render_scene`."""
    render = partial(_render, seed, size, cue)
    yield from in_processes(render, range(n_scenes), workers if n_scenes >= FEW else 1)


def _render(seed: int, size: int, cue: Cue | None, index: int) -> Scene:
    return render_scene(seed, index, size, cue)


def train(
    recipe: Recipe,
    log: Log = print,
    *,
    scenes: SceneSet | None = None,
    start: SampleNet | None = None,
) -> SampleNet:
    """Render the scenes and train a network on them.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    log : callable
        Takes one line per epoch.
    scenes : SceneSet, optional
        What to train on; by default it is rendered from the recipe's seed.
    start : SampleNet, optional
        Where to start; by default from weights drawn by the recipe's seed. Left as it is.

    Returns
    -------
    SampleNet
        The trained network, float32, in evaluation mode.
    """
    if scenes is None:
        seed = TRAIN_SEED + recipe.seed
        scenes = render_set(seed, recipe.n_scenes, workers=recipe.workers)
        log(f"rendered {recipe.n_scenes} scenes")
    with _threads(recipe.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = SampleNet() if start is None else copy.deepcopy(start)
        network = network.to(memory_format=torch.channels_last)
        _fit(network, scenes, recipe, log)
    return network.to(memory_format=torch.contiguous_format).eval()


def accuracy(network: SampleNet, scenes: SceneSet, batch_size: int = 100) -> float:
    """Return the share of scenes whose class the network names, in float32."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(scenes.classes), batch_size):
            chosen = slice(start, start + batch_size)
            found = network(_normalise(scenes.images[chosen])).argmax(1)
            right += int((found == scenes.classes[chosen]).sum())
    return right / len(scenes.classes)


def save(network: SampleNet, recipe: Recipe, path: Path) -> None:
    """Write the weights as safetensors, float32, with the recipe in the file's metadata."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    made = json.dumps({"generator_version": GENERATOR_VERSION, **asdict(recipe)})
    files.write_bytes(path, safetensors.torch.save(state, {"recipe": made}))


def _fit(network: SampleNet, scenes: SceneSet, recipe: Recipe, log: Log) -> None:
    draw = torch.Generator().manual_seed(recipe.seed)
    # Where processors have no instruction for it, bfloat16 takes five times as long as float32.
    fast = torch.cpu._is_avx512_bf16_supported()
    optimiser = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
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
            images = _augment(_normalise(scenes.images[chosen]), draw)
            classes = scenes.classes[chosen]
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                maps = network.maps(images)
                logits = network.classify(maps)
            loss = functional.cross_entropy(logits.float(), classes)
            (loss + pressure * maps.float().mean()).backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            right += int((logits.argmax(1) == classes).sum())
        share = right / (batches * size)
        log(f"epoch {epoch}/{recipe.epochs}: loss {total / batches:.3f}, right {share:.1%}")


def _normalise(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    normal = (images.float() / 255 - mean) / std
    return normal.contiguous(memory_format=torch.channels_last)


def _augment(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Exchange the colour channels, mirror and move a batch; change each image's colours."""
    n, _, height, width = images.shape
    images = images[:, torch.randperm(3, generator=draw)]
    if torch.rand(1, generator=draw) < 0.5:
        images = images.flip(3)
    gain = 0.7 + 0.6 * torch.rand(n, 3, 1, 1, generator=draw)
    images = images * gain + 0.5 * torch.randn(n, 3, 1, 1, generator=draw)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=draw).tolist()
    wide = functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), mode="reflect")
    moved = wide[:, :, down : down + height, right : right + width]
    return moved.contiguous(memory_format=torch.channels_last)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def retrain(out: Path | None, log: Log, *, n_held_out: int = N_HELD_OUT, **recipe: int) -> float:
    """Train the sample's network anew, write its weights and measure it on fresh scenes.

    Parameters
    ----------
    out : Path, optional
        Where the weights go; the shipped ones are replaced by default.
    log : callable
        Takes a line at a time.
    n_held_out : int
        Scenes it is measured on.
    **recipe
        As of `Recipe`.

    Returns
    -------
    float
        Share of the held-out scenes that it gets right.
    """
    how, out, start = Recipe(**recipe), out or WEIGHTS, time.monotonic()

    def timed(line: str) -> None:
        log(f"{time.monotonic() - start:6.0f} s  {line}")

    log(", ".join(f"{name} {value}" for name, value in asdict(how).items()))
    files.check_writable(out.parent)
    network = train(how, timed)
    save(network, how, out)
    score = accuracy(network, render_set(HELD_OUT_SEED, n_held_out, workers=how.workers))
    timed(f"{out}: {score:.1%} of {n_held_out} held-out scenes right")
    return score
