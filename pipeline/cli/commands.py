"""Every command, declared once: what it does, its options, an example, and what carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..config import OF_AN_IMAGE
from .options import CONFIG, FROM, LAYERS, OF_A_RUN, RUN, Option


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    name : str
    summary : str
        What it does, one line.
    options : mapping of str to Option
    example : mapping of str to str
        Options of a call that makes sense.
    action : str
        The function of `pipeline.cli.actions` that takes the options given.
    more : str
        What else there is to say.
    """

    name: str
    summary: str
    options: Mapping[str, Option]
    example: Mapping[str, str]
    action: str
    more: str = ""


_LIST = (
    Command(
        "discover",
        "Find the concepts of a dataset (default: the bundled sample) and make their atlas",
        OF_A_RUN | {"layers": LAYERS, "from_run": FROM},
        {"dataset": "photos", "model": "resnet50", "run": "runs/pets"},
        "discover",
        "All stages in order: extract, factorize, localize, classify, export, atlas.",
    ),
    Command(
        "explain",
        "Show the concepts in an image: those of a run, or some of its own for a network",
        {
            "image": Option("the image to explain"),
            "run": Option("explain by the concepts of this run; without it the image alone"),
            "out": Option("where the picture goes (PNG)", "explain-<name>.png, in the run if any"),
        }
        | {name: CONFIG[name] for name in OF_AN_IMAGE}
        | {"k": Option("numbers of concepts of an image by itself, as 5 or 2,5,12", "5")},
        {"image": "cat.jpg", "run": "runs/pets"},
        "explain",
    ),
    Command(
        "layers",
        "List the layers of a network and which of them can be used; without one, the networks",
        {name: CONFIG[name] for name in ("model", "weights", "image_size", "head")},
        {"model": "resnet50"},
        "layers",
    ),
    Command(
        "evaluate",
        "Score a run against true masks, maps of parts, or boxes",
        RUN
        | {
            "masks": Option(
                "folder of masks or label maps named as the images (0 is background), a CSV of"
                " boxes (path, x0, y0, x1, y1) or COCO's JSON; a dataset that is such a JSON needs"
                " none"
            ),
            "refiner": Option("what gives masks the image's edges: a plug-in, or none", "edges"),
        },
        {"run": "runs/horses", "masks": "horses-masks"},
        "evaluate",
        "J, pixel precision and CorLoc by label; NMI and ARI of parts. Writes into the"
        " run's evaluation/:\nscores.csv by image, labels.csv, concepts.csv, summary.json, and"
        " objects.png, found in orange, true in blue.",
    ),
    Command(
        "compare",
        "Compare the concepts of two runs: which of one is which of the other",
        {"a": Option("folder of a run"), "b": Option("folder of another run on the same layer")},
        {"a": "runs/pets", "b": "runs/pets-100"},
        "compare",
    ),
    Command(
        "concepts",
        "Print the concepts of a run: what head and labels call them, where the network fails",
        RUN,
        {"run": "runs/pets"},
        "concepts",
    ),
    Command(
        "suspects",
        "Print what nobody told the network to learn: concepts that move it away from the labels",
        RUN,
        {"run": "runs/pets"},
        "suspects",
    ),
    Command(
        "pin",
        "Name a concept of a run, or take the names of another run; without either, list them",
        RUN
        | {
            "concept": Option("number of the concept to name"),
            "name": Option("its name; without one it is called again what is worked out"),
            "names": Option(
                "another run, its names.csv, or a CSV of concept_id and name: each goes to the"
                " concept that is the same"
            ),
            "model": Option("the network of a run that code makes: file.py:function"),
        },
        {"run": "runs/pets", "concept": "7", "name": "wheel"},
        "pin",
        "Names are kept in the run's names.csv, which clean leaves, and found again in later fits.",
    ),
    Command(
        "status",
        "Say which stages of a run are done and which files are missing",
        RUN,
        {"run": "runs/pets"},
        "status",
        "Contents are not read; verify does that.",
    ),
    Command(
        "verify",
        "Check every file of a run against its record",
        RUN,
        {"run": "runs/pets"},
        "verify",
    ),
    Command(
        "clean",
        "Remove a run: its files, and its folder unless other files are in it",
        RUN,
        {"run": "runs/pets"},
        "clean",
    ),
    Command(
        "sample-model",
        "Train the network of the bundled sample anew, or its transformer",
        {
            "arch": Option("cnn, or vit for the transformer", "cnn"),
            "out": Option("file to write", "the shipped weights"),
            "seed": Option("decides scenes, initial weights and order", "0"),
            "n_scenes": Option("scenes to render and train on", "6400"),
            "epochs": Option("how often each scene is seen", "20, of vit 16"),
            "threads": Option("of the training, on which its last bits depend", "2, of vit 1"),
            "workers": Option("processes that render", "2"),
            "n_held_out": Option("fresh scenes to measure the accuracy on", "600"),
        },
        {"out": "mine.safetensors", "epochs": "10"},
        "sample_model",
    ),
    Command(
        "doctor",
        "Say whether this machine has what Concordance needs",
        {},
        {},
        "doctor",
    ),
)

_STAGES = (
    ("extract", "Run every image through the network once and store its activations"),
    ("factorize", "Choose the number of concepts and fit them to the stored activations"),
    ("localize", "Give every image its heatmaps of the fixed concepts"),
    ("classify", "Ask the network's head what each concept is, and measure what it does"),
    ("export", "Write the tables of a run"),
    ("atlas", "Write the atlas of a run: the site and its sheets"),
)

COMMANDS = {each.name: each for each in _LIST}
"""What make and ``concordance`` offer."""

STAGES = {
    name: Command(name, text, OF_A_RUN, {"run": "runs/pets"}, "stage") for name, text in _STAGES
}
"""Single stages, for those who run them one by one."""
