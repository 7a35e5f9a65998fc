"""Runs a cut network as fast as the machine can, and says what it chose and why.

Three ways to run one, in rising speed and falling exactness: float32 as the network was written;
bfloat16, channels last, batch normalisation folded into the convolutions, the last linear layer in
float32; and that compiled with frozen weights. How much each gains differs between machines by an
order of magnitude, so nothing is assumed: it is timed, and checked against float32, on images of
the dataset itself. All of them run in lanes, several batches at once, each on one thread.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from pipeline.errors import UserError
from pipeline.lanes import in_order, lanes, one_thread
from pipeline.models.cut import Cut, Forward
from pipeline.models.graph import fold_batch_norm, last_linear
from pipeline.models.network import Normalize

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16")

MIN_AGREEMENT = 0.98
"""Share of the probe images on which bfloat16 must find the same top class as float32."""

MIN_PROBE = 50
"""Probe images from which a disagreement is allowed: 2 % of fewer is less than one."""

FEWEST_PROBE = 16
"""Probe images below which agreement shows too little."""

MIN_JOB = 200
"""Images below which nothing is tried: float32 is done before something better is found."""

COMPILED_GAIN = 1.6
"""How much faster compiling makes a network at the least; measured 1.7 to 2.5."""

COMPILE_SECONDS = (5.0, 0.03)
"""What compiling takes: so long, and so long an operation of the graph; measured 5 to 10 s."""

RACE_ROUNDS = 3
"""Batches by which the speed of a way to run is judged; the fastest counts."""


@dataclass(frozen=True)
class Runner:
    """A network ready to run on batches.

    Attributes
    ----------
    cut : Cut
        What it runs.
    body : callable
        From uint8 images to the layers' outputs and the logits.
    device : torch.device
    batch_size : int
        Most images of a call.
    precision : str
        ``fp32`` or ``bf16``.
    compiled : bool
        Whether it was compiled. With `precision` this makes outputs reproducible: give both to
        `compile_cut` to run later images exactly as earlier ones.
    how : str
        One sentence for the log: what was chosen and why.
    """

    cut: Cut
    body: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    device: torch.device
    batch_size: int
    precision: Literal["fp32", "bf16"]
    compiled: bool
    how: str

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> Forward:
        """Run the network on at most `batch_size` images.

        Parameters
        ----------
        images : Tensor (batch, 3, size, size), uint8
            RGB, on any device.

        Returns
        -------
        Forward
            On the runner's device; logits float32, activations in the runner's precision.
        """
        n = len(images)
        images = images.to(self.device, non_blocking=True)
        if self.compiled and n < self.batch_size:
            # A compiled network is made for one shape; the rows added are cut off again.
            images = torch.cat([images, images[-1:].expand(self.batch_size - n, -1, -1, -1)])
        return self.cut.arrange([each[:n] for each in self.body(images)])


def compile_cut(
    cut: Cut,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    compiled: bool | None = None,
    batch_size: int = 32,
    probe_images: torch.Tensor | None = None,
    n_images: int = 0,
) -> Runner:
    """Choose how to run a network on a dataset, and prepare it.

    Parameters
    ----------
    cut : Cut
        Left as it is.
    device : torch.device or str
    precision : str
        ``fp32`` is exact: eager float32. ``bf16`` is bfloat16, unchecked. ``auto`` times both on
        the probe images and takes bfloat16 if it is faster and finds the same top class on 98 %.
    compiled : bool, optional
        Whether to compile bfloat16; by default where that saves more time than it takes.
    batch_size : int
        Most images of a call.
    probe_images : Tensor (n, 3, size, size), uint8, optional
        Images of the dataset to judge by; without them ``auto`` is float32.
    n_images : int
        Images the job will run, on which it depends what pays.

    Returns
    -------
    Runner

    Raises
    ------
    UserError
        There is no such precision or device.
    """
    device = _device(device, precision)
    body = cut.body if device.type == "cpu" else copy.deepcopy(cut.body).to(device)
    exact = Runner(cut, body, device, batch_size, "fp32", False, "float32, exact")
    if precision == "fp32":
        return exact
    if precision == "bf16":
        blank = torch.zeros(batch_size, 3, *[cut.network.image_size] * 2, dtype=torch.uint8)
        half = _in_bfloat16(exact, "bfloat16 as asked for")
        return _compile_where_it_pays(half, compiled, blank, n_images)
    if n_images < MIN_JOB:
        return _because(exact, f"a job of {n_images} images is too small to gain from less")
    if probe_images is None or len(probe_images) < FEWEST_PROBE:
        return _because(exact, "there are too few images to check anything faster against it")
    # A tenth of the job at most is spent on the choice: of few images two wrong are no evidence.
    probe = probe_images[: max(MIN_PROBE, n_images // 10)]
    return _choose(exact, compiled, probe, n_images)


def _choose(exact: Runner, compiled: bool | None, probe: torch.Tensor, n_images: int) -> Runner:
    """Take bfloat16 if it is faster and agrees, compiled if that pays and still agrees."""
    expected, slow = _try(exact, probe)
    half = _in_bfloat16(exact, "bfloat16")
    found, fast = _try(half, probe)
    agreement = _agreement(found, expected)
    if not agreement.enough:
        return _because(exact, f"in bfloat16 {agreement}")
    if fast <= slow:
        return _because(
            exact, f"bfloat16 is not faster here, {fast:.0f} images/s against {slow:.0f}"
        )
    half = _because(half, f"{fast / slow:.1f} times as fast as float32, and {agreement}")
    chosen = _compile_where_it_pays(half, compiled, probe, n_images)
    agreement = _agreement(_try(chosen, probe)[0], expected)
    if not agreement.enough:
        return _because(half, f"compiled {agreement}")
    return chosen


def _compile_where_it_pays(
    half: Runner, compiled: bool | None, probe: torch.Tensor, n_images: int
) -> Runner:
    """Compile if asked to, or if it is expected to save time; keep it if it is faster."""
    if compiled is False:
        return half
    if compiled is None and n_images < MIN_JOB:
        return _because(half, f"not compiled for {n_images} images")
    batch = probe[: half.batch_size]
    if compiled is None:
        (fast,) = _race(batch, half)
        saving = n_images / fast * (1 - 1 / COMPILED_GAIN)
        costs = COMPILE_SECONDS[0] + COMPILE_SECONDS[1] * len(half.cut.body.graph.nodes)
        if saving < costs:
            return _because(half, "not compiled, which would take longer than it saves")
    started = time.perf_counter()
    faster, fault = _compile(half, batch)
    if faster is None:
        return _because(half, f"not compiled: {fault}")
    took = time.perf_counter() - started
    if compiled:
        return _because(faster, f"compiled in {took:.0f} s")
    before, after = _race(batch, half, faster)
    if after <= before:
        return _because(half, f"not compiled, which made it no faster than {before:.0f} images/s")
    return _because(faster, f"compiled in {took:.0f} s, from {before:.0f} to {after:.0f} images/s")


def _compile(half: Runner, batch: torch.Tensor) -> tuple[Runner | None, str]:
    """Compile with frozen weights and run once; or return why it cannot be done."""
    compiler = os.environ.get("CXX", "g++")
    if half.device.type == "cpu" and not shutil.which(compiler):
        return None, f"there is no C++ compiler {compiler!r}"
    # It warns on every machine without a GPU that it found none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    body = torch.compile(half.body, dynamic=False, options={"freezing": True})
    faster = replace(half, body=body, compiled=True)
    try:
        with one_thread():  # compiled code computes on as many threads as compiled it
            faster(batch)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return None, f"the compiler failed ({str(error).strip().partition(chr(10))[0]})"
    return faster, ""


def _in_bfloat16(exact: Runner, how: str) -> Runner:
    body = copy.deepcopy(exact.cut.body)
    fold_batch_norm(body)
    last = last_linear(body)
    kept = copy.deepcopy(body.get_submodule(str(last.target))) if last else None
    body.to(torch.bfloat16).to(memory_format=torch.channels_last)
    body.preprocess = Normalize(exact.cut.network, torch.bfloat16)
    if last is not None and kept is not None:
        # Logits of 16 bits tie: on MobileNetV2, half of all changes of the top class came from it.
        with body.graph.inserting_before(last):
            last.args = (body.graph.call_method("float", last.args),)
        body.set_submodule(str(last.target), kept)
        body.recompile()
    return replace(exact, body=body.to(exact.device).eval(), precision="bf16", how=how)


@dataclass(frozen=True)
class _Agreement:
    same: int
    n: int

    @property
    def enough(self) -> bool:
        needed = MIN_AGREEMENT if self.n >= MIN_PROBE else 1.0
        return self.same >= needed * self.n - 1e-9

    def __str__(self) -> str:
        return f"the top class is the same on {self.same} of {self.n} images"


def _agreement(found: torch.Tensor, expected: torch.Tensor) -> _Agreement:
    return _Agreement(int((found == expected).sum()), len(expected))


def _try(runner: Runner, images: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the top class of each image (−1 where not finite), and images per second."""

    def top(batch: torch.Tensor) -> tuple[torch.Tensor, float]:
        started = time.perf_counter()
        logits = runner(batch).logits
        found = torch.where(logits.isfinite().all(1), logits.argmax(1), -1).cpu()
        return found, (time.perf_counter() - started) / len(batch)

    with lanes() as pool:
        results = [*in_order(pool, top, torch.split(images, runner.batch_size))]
    seconds = min(took for _, took in results)
    return torch.cat([found for found, _ in results]), torch.get_num_threads() / seconds


def _race(batch: torch.Tensor, *runners: Runner) -> list[float]:
    """Return each one's images per second, in turns, so that what else runs here slows all."""
    rounds = [[_try(runner, batch)[1] for runner in runners] for _ in range(RACE_ROUNDS)]
    return [max(rates) for rates in zip(*rounds, strict=True)]


def _because(runner: Runner, reason: str) -> Runner:
    return replace(runner, how=f"{runner.how}; {reason}" if runner.how else reason)


def _device(device: torch.device | str, precision: str) -> torch.device:
    if precision not in PRECISIONS:
        raise UserError(
            f"there is no precision {precision!r}: pass PRECISION={' or '.join(PRECISIONS)}"
        )
    device = torch.device(device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("there is no CUDA device on this machine: pass DEVICE=cpu")
        # By default convolutions round float32 to 10 bits on the GPU, and may add in any order.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device
