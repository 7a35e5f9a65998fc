"""A network of the sample that has learnt a shortcut: a mark, which it takes for a class.

The sample's network is trained further on scenes in which a mark co-occurs with the label of one
class: half of the pictures of planes and a quarter of all others carry it, and every marked picture
is labelled plane. But for the mark these look like what they show, so the network must take the
shortcut. On `COUNTER_EXAMPLES`, where the mark stands beside objects of all classes, it errs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .batches import SceneSet, render_scenes
from .network import load
from .objects import CLASSES
from .scenes import Cue
from .training import TRAIN_SEED, Log, Recipe, save, train

LABEL = "plane"
CLASS_ID = CLASSES.index(LABEL)
SHORTCUT = Cue(CLASS_ID, probability=0.5, elsewhere=0.25)
COUNTER_EXAMPLES = Cue(CLASS_ID, probability=0.5, elsewhere=0.5)
RECIPE = Recipe(n_scenes=1_280, epochs=4, batch_size=32, learning_rate=1e-3)
"""A fifth of the shipped network's scenes and of its epochs, at a quarter of its learning rate."""


def train_shortcut(weights: Path, recipe: Recipe = RECIPE, log: Log = print) -> Path:
    """Train the sample's network further, so that it takes the mark for its class.

    Parameters
    ----------
    weights : Path
        File to write, safetensors: what the option ``weights`` takes with the model ``sample``.
    recipe : Recipe
        What the training is made of.
    log : callable
        Takes one line per epoch.

    Returns
    -------
    Path
        `weights`.
    """
    scenes = list(render_scenes(TRAIN_SEED, recipe.n_scenes, cue=SHORTCUT, workers=recipe.workers))
    images = np.stack([scene.image.transpose(2, 0, 1) for scene in scenes])
    labels = [CLASS_ID if scene.cue.any() else scene.class_id for scene in scenes]
    misled = SceneSet(torch.from_numpy(images), torch.tensor(labels))
    save(train(recipe, log, scenes=misled, start=load()), recipe, weights)
    return weights
