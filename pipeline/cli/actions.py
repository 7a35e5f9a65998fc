"""What each command calls of the library, and what it prints of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import SAMPLE, make_config
from ..errors import UserError, command, option, suggest
from ..escape import visible
from . import text
from .options import Options

SOME = 5
"""How many of many files are named."""


def discover(options: Options) -> None:
    """Carry out all stages of a run, and print what was found."""
    from ..analysis.report import summary
    from ..jobs.discover import discover_run, discover_siblings
    from ..runs.find import find_run, find_siblings

    several = "layers" in options
    workspaces = find_siblings(options) if several else [find_run(options)]
    runs = discover_siblings(workspaces) if several else [discover_run(workspaces[0])]
    for workspace, run in zip(workspaces, runs, strict=True):
        part = workspace.config.shard
        if part is not None:
            n_missing = len(workspace.activations.missing())
            text.show(f"part {part} is extracted; {n_missing} shards are missing yet")
        else:
            text.show(summary(run))


def stage(name: str, options: Options) -> None:
    """Carry out one stage of a run."""
    from ..jobs.execute import execute
    from ..runs.find import find_run

    execute(find_run(options), [name])


def explain(options: Options) -> None:
    """Explain an image; write its picture and print what it says."""
    from ..analysis.explain_image import explain as explain_image
    from ..system import files

    given: dict[str, Any] = dict(options)
    image, out = Path(_needed(given, "image", "<file>")), given.pop("out", None)
    run = _run_folder(options) if "run" in options else None
    given.pop("image")
    given.pop("run", None)
    where = Path(out or (run or Path()) / f"explain-{image.stem}.png")
    files.check_writable(
        where.parent, f"pass {option('out', '<file>')} with a place for the picture"
    )
    found = explain_image(image, run, **given)
    found.save(where)
    text.show(f"{found.describe()}\npicture  {visible(str(where))}")


def layers(options: Options) -> None:
    """List a network's layers, or the networks there are."""
    from ..models import describe_layers, list_models

    if not options:
        text.show("\n".join(list_models()))
        return
    config = make_config(dict(options))
    model = SAMPLE if config.model == "auto" else config.model
    found = describe_layers(model, config.weights, image_size=config.input_size, head=config.head)
    text.show(text.layers(found))


def evaluate(options: Options) -> None:
    """Score a run against ground truth, and keep scores and a picture in it."""
    from ..analysis.evaluate import evaluate as score
    from ..analysis.run import open_run
    from ..system import files

    run = open_run(_run_folder(options))
    files.check_writable(run.folder, "copy the run to where you may write, and score the copy")
    refiner = options.get("refiner", "edges")
    found = score(run, options.get("masks"), refiner=None if refiner == "none" else refiner)
    folder = run.folder / "evaluation"
    names = ", ".join(path.name for path in found.save(folder))
    text.show(f"{text.evaluation(found)}\n\nwritten   {visible(str(folder))}: {names}")


def compare(options: Options) -> None:
    """Print which concept of one run is which of another."""
    from ..analysis.compare import compare as match
    from ..analysis.run import open_run

    for name in ("a", "b"):
        if name not in options:
            raise UserError(f"{option(name)} is missing; pass {option('a')} and {option('b')}")
    folders = [_run_folder({"run": options[name]}, name) for name in ("a", "b")]
    text.show(text.comparison(match(*map(open_run, folders)), *folders))


def concepts(options: Options) -> None:
    """Print a run's concepts."""
    from ..analysis.report import list_concepts
    from ..analysis.run import open_run

    text.show(list_concepts(open_run(_run_folder(options))))


def suspects(options: Options) -> None:
    """Print the concepts that mislead a run's network."""
    from ..analysis.run import open_run
    from ..analysis.suspects_report import list_suspects

    text.show(list_suspects(open_run(_run_folder(options))))


def pin(options: Options) -> None:
    """Name a concept, take the names of another run, or print the names that people gave."""
    from ..jobs.pin import name_concept, names_given, take_names
    from ..models import canonical, consent

    folder = _run_folder(options)
    if "model" in options:
        consent.allow(canonical(options["model"]))
    if "names" in options and "concept" in options:
        raise UserError(f"{option('names')} and {option('concept')} do not go together; give one")
    if "name" in options and "concept" not in options:
        raise UserError(f"{option('concept')} is missing; pass {option('concept', '<number>')}")
    if "names" in options:
        for each in take_names(folder, options["names"]):
            text.show(visible(f"not taken  {each}"))
    elif "concept" in options:
        number = options["concept"]
        if not number.isascii() or not number.isdecimal():
            raise UserError(f"{option('concept', number)} is not the number of a concept")
        name_concept(folder, int(number), options.get("name", ""))
    text.show(text.names(names_given(folder)))


def status(options: Options) -> None:
    """Print how far a run is."""
    from ..runs.status import status as look

    found = look(_run_folder(options))
    text.show(text.status(found))
    if not found.is_finished:
        text.show(f"to go on: {command('discover', run=found.folder)}")


def verify(options: Options) -> None:
    """Compare a run's files with their records and print the bad ones."""
    from ..runs.integrity import verify as check

    folder = _run_folder(options)
    found = check(folder)
    for path, fault in found.bad.items():
        text.show(visible(f"bad  {path}: {fault}"))
    if not found.is_whole:
        raise UserError(
            f"{len(found.bad)} files of {folder} are missing or damaged;"
            f" {command('discover', run=folder)} makes them again"
        )
    text.show(visible(f"all {found.n_good} files of {folder} are as they were written"))
    for line in found.history:
        text.show(line)


def clean(options: Options) -> None:
    """Remove a run."""
    from ..runs.clean import clean as remove

    folder = _run_folder(options)
    others = remove(folder)
    if not others:
        text.show(visible(f"removed {folder}"))
        return
    named = ", ".join(str(path.relative_to(folder)) for path in others[:SOME])
    more = f" and {len(others) - SOME} more" if len(others) > SOME else ""
    told = f"removed the run in {folder}; not the run's own, and left: {named}{more}"
    text.show(visible(told))


def sample_model(options: Options) -> None:
    """Train the sample's network and say how good it is."""
    from ..sample.training import RECIPES, retrain

    asked = options.get("arch", "cnn")
    arch = next((each for each in RECIPES if each == asked), None)
    if arch is None:
        raise UserError(f"{option('arch', asked)} is neither {' nor '.join(RECIPES)}")
    given = {
        name: _whole(name, value) for name, value in options.items() if name not in ("arch", "out")
    }
    out = Path(options["out"]) if "out" in options else None
    retrain(out, text.show, arch=arch, **given)


def doctor(options: Options) -> int:
    """Print what this machine has and lacks; 1 where something is missing that is needed."""
    from ..system.doctor import examine

    broken = False
    for finding in examine():
        text.show(text.finding(finding))
        broken |= finding.needed and not finding.ok
    return int(broken)


def _needed(options: Mapping[str, str], name: str, kind: str) -> str:
    if name not in options:
        raise UserError(f"{option(name)} is missing; pass {option(name, kind)}")
    return options[name]


def _run_folder(options: Mapping[str, str], called: str = "run") -> Path:
    """Return the folder of the run that was named."""
    from ..runs.ownership import is_run

    if "run" not in options:
        raise UserError(f"{option('run')} is missing; pass {option('run', '<folder>')}")
    folder = Path(options["run"])
    if not is_run(folder):
        found = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = suggest(folder.name, found)
        raise UserError(f"{option(called, folder)} is not a run{'; ' + near if near else ''}")
    return folder


def _whole(name: str, value: str) -> int:
    least = 0 if name == "seed" else 1
    if not value.isascii() or not value.isdecimal() or int(value) < least:
        raise UserError(f"{option(name, value)} is no number from {least} upward")
    return int(value)
