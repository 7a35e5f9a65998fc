"""Extraction of three layers by one forward pass, beside the extraction of each by itself.

"One extraction" is that of the layer that takes longest alone. What it computes with is chosen
once before, for all alike; the fits of the layers are the same either way and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks.harness import Report, alternate, ratio, show
from pipeline.jobs import extract as job
from pipeline.models.runtime import compile_cut
from pipeline.models.together import Together
from pipeline.runs.find import find_siblings
from pipeline.runs.workspace import Workspace
from pipeline.system import files

LAYERS = {
    "resnet50": ("layer2", "layer3", "layer4"),
    "mobilenet_v2": ("features.10", "features.13", "features"),
}
TARGET = "extract.layers_over_one"


def measure_layers(
    photos: Path, folder: Path, options: dict[str, str], rounds: int, report: Report
) -> None:
    """Time the extraction of three layers of each network, together and one by one.

    Parameters
    ----------
    photos, folder : Path
        The images, and where the runs may lie.
    options : dict
        Of all runs, ``precision`` among them.
    rounds : int
        How often each way takes its turn.
    report : Report
        Where the outcome goes: the larger of the networks' ratios.
    """
    found, rows = [], []
    for network, layers in LAYERS.items():
        given = {**options, "dataset": str(photos), "model": network, "run": folder / network}
        runs = find_siblings({**given, "layers": layers})
        ways = {layer: _extraction([run]) for layer, run in zip(layers, runs, strict=True)}
        times = alternate({**ways, "together": _extraction(runs)}, rounds)
        each = {layer: ratio(times["together"], times[layer]) for layer in layers}
        found.append(min(each.values()))
        rows += [[f"{network} {layer}", value] for layer, value in each.items()]
    show("three layers together", ["over the extraction of", "ratio"], rows)
    report.measured(TARGET, max(found))


def _extraction(runs: Sequence[Workspace]) -> Callable[[], object]:
    first = runs[0]
    together = Together([each.cut for each in runs])
    precision = first.config.precision
    runner = compile_cut(together, precision=precision, batch_size=job.BATCH, n_images=100_000)
    for each in runs:
        if each.record.forward is None:
            job.note_runner(each, runner)

    def extract() -> None:
        for each in runs:
            store = each.activations
            for index in range(store.n_shards):
                files.remove(store.path(index))
                files.remove(store.path(index).with_suffix(".json"))
        with patch.object(job, "choose_runner", return_value=runner):
            job.extract(first, beside=runs[1:])
        assert not any(each.activations.missing() for each in runs)

    return extract
