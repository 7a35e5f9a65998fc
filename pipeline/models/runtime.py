"""Runs a cut network as fast as the machine can, and says what it chose and why.

Ways to run one, in rising speed and falling exactness: float32 as the network was written; float32
rearranged (channels last, batch normalisation folded into the convolutions), which rounds
otherwise; the same in bfloat16, but for the last linear layer. Both of these can be compiled with
frozen weights. How much each gains differs between machines by an order of magnitude, so nothing is
assumed: it is timed, and checked against float32, on images of the dataset itself. All of them run
in lanes, several batches at once, each on one thread; on a graphics card one at a time, replayed.
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
from typing import Any, Literal, get_args

import torch
from torch import fx

from ..errors import UserError, option
from ..images import sides
from ..system.threads import one_thread
from .comparison import MIN_PROBE, agreement_of, attempt, race
from .cuda_graph import CudaGraph
from .cut import Cut, Forward
from .graph import fold_batch_norm, last_linear
from .network import Normalize
from .together import Together

Arithmetic = Literal["fp32", "fp32-folded", "bf16"]
Precision = Literal["auto"] | Arithmetic
PRECISIONS = ("auto", "fp32", "bf16")
"""What a user may ask for; ``fp32-folded`` is what ``auto`` comes to where bfloat16 errs."""

FASTER: tuple[Arithmetic, ...] = ("bf16", "fp32-folded")
"""What ``auto`` tries, the fastest first."""

FEWEST_PROBE = 16
"""Probe images below which agreement shows too little."""

MIN_JOB = 200
"""Images below which nothing is tried: float32 is done before something better is found."""

COMPILED_GAIN = 1.2
"""How much faster compiling is expected to make a network; measured from nothing to 2.5."""

COMPILE_SECONDS = (18.0, 0.02)
"""What compiling takes: so long, and so long per operation of the graph. Measured 11 to 26 s, and 4
to 9 s where torch has compiled the same before."""


@dataclass(frozen=True)
class Runner:
    """A network ready to run on batches.

    Attributes
    ----------
    together : Together
        What it runs: one cut, or several in one pass.
    body : callable
        From uint8 images to the layers' outputs and the logits.
    device : torch.device
    batch_size : int
        Most images of a call.
    precision : str
        ``fp32``, ``fp32-folded`` or ``bf16``.
    compiled : bool
        Whether it was compiled. With `precision` this makes outputs reproducible: give both to
        `compile_cut` to run later images exactly as earlier ones.
    how : str
        One sentence for the log: what was chosen and why.
    replay : callable, optional
        On a graphics card: `body` captured for batches of `batch_size`, where that is possible.
    """

    together: Together
    body: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    device: torch.device
    batch_size: int
    precision: Arithmetic
    compiled: bool
    how: str
    replay: CudaGraph | None = None

    @property
    def cut(self) -> Cut:
        """What it runs, or the first of that."""
        return self.together.first

    @property
    def at_once(self) -> int:
        """Number of batches that lanes run side by side."""
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    def __call__(self, images: torch.Tensor) -> Forward:
        """Run the network on at most `batch_size` images; see `passes`."""
        return self.passes(images)[0]

    @torch.no_grad()
    def passes(self, images: torch.Tensor) -> tuple[Forward, ...]:
        """Run the network once on at most `batch_size` images.

        Parameters
        ----------
        images : Tensor (batch, 3, size, size), uint8
            RGB, on any device.

        Returns
        -------
        tuple of Forward
            For every cut, on the runner's device; logits float32, activations in the runner's
            precision.
        """
        n = len(images)
        images = images.to(self.device, non_blocking=True)
        if (self.compiled or self.replay) and n < self.batch_size:
            # These are made for one shape; the rows added are cut off again.
            images = torch.cat([images, images[-1:].expand(self.batch_size - n, -1, -1, -1)])
        return self.together.arrange([each[:n] for each in (self.replay or self.body)(images)])

    def blank(self) -> torch.Tensor:
        """Return a full batch of black images, uint8, on the runner's device."""
        shape = (self.batch_size, 3, *sides(self.cut.network.image_size))
        return torch.zeros(shape, dtype=torch.uint8, device=self.device)


def compile_cut(
    cut: Cut | Together,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    compiled: bool | None = None,
    batch_size: int = 32,
    probe_images: torch.Tensor | None = None,
    n_images: int = 0,
    tick: Callable[[int], object] = lambda n: None,
) -> Runner:
    """Choose how to run a network on a dataset, and prepare it.

    Parameters
    ----------
    cut : Cut or Together
        Left as it is; of several cuts each pass gives all layers.
    device : torch.device or str
    precision : str
        ``fp32`` is exact: eager float32. ``fp32-folded`` and ``bf16`` are used unchecked.
        ``auto`` times them on the probe images and takes the first of bfloat16 and folded float32
        that is faster than exact and finds the same top class on 98 %.
    compiled : bool, optional
        Whether to compile what is not exact; by default where that saves more than it takes.
    batch_size : int
        Most images of a call.
    probe_images : Tensor (n, 3, size, size), uint8, optional
        Images of the dataset to judge by; without them ``auto`` is float32.
    n_images : int
        Images the job will run, on which it depends what pays.
    tick : callable
        Told of so many probe images more that were run.

    Returns
    -------
    Runner

    Raises
    ------
    UserError
        There is no such precision or device.
    """
    device = _device(device, precision)
    cuts = Together([cut]) if isinstance(cut, Cut) else cut
    body = cuts.body if device.type == "cpu" else copy.deepcopy(cuts.body).to(device)
    exact = _captured(Runner(cuts, body, device, batch_size, "fp32", False, "float32, exact"))
    if precision == "fp32":
        return exact
    if precision != "auto":
        asked = _rearrange(exact, precision)
        asked = replace(asked, how=f"{asked.how} as asked for")
        return _compile_where_it_pays(asked, compiled, asked.blank(), n_images)
    if not cuts.first.n_classes:
        return _because(exact, "for without classes nothing tells whether less would do")
    if n_images < MIN_JOB:
        return _because(exact, f"a job of {n_images} images is too small to gain from less")
    if probe_images is None or len(probe_images) < FEWEST_PROBE:
        return _because(exact, "there are too few images to check anything faster against it")
    # A tenth of the job at most is spent on the choice: of few images two wrong are no evidence.
    probe = probe_images[: max(MIN_PROBE, n_images // 10)]
    return _choose(exact, compiled, probe, n_images, tick)


def _choose(
    exact: Runner,
    compiled: bool | None,
    probe: torch.Tensor,
    n_images: int,
    tick: Callable[[int], object],
) -> Runner:
    """Take what is faster than exact and agrees with it, compiled if that pays and still agrees."""
    expected, slow = attempt(exact, probe, tick)
    faults = ""
    for precision in FASTER:
        faster = _rearrange(exact, precision)
        found, fast = attempt(faster, probe, tick)
        agreement = agreement_of(found, expected)
        if not agreement.enough:
            faults += f"; in {faster.how} {agreement}"
        elif fast <= slow:
            faults += f"; {faster.how} is not faster here, {fast:.0f} images/s against {slow:.0f}"
        else:
            reason = f"{fast / slow:.1f} times as fast as exact, and {agreement}{faults}"
            faster = _because(faster, reason)
            chosen = _compile_where_it_pays(faster, compiled, probe, n_images)
            agreement = agreement_of(attempt(chosen, probe, tick)[0], expected)
            return chosen if agreement.enough else _because(faster, f"compiled {agreement}")
    return replace(exact, how=exact.how + faults)


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
        (fast,) = race(batch, half)
        saving = n_images / fast * (1 - 1 / COMPILED_GAIN)
        costs = COMPILE_SECONDS[0] + COMPILE_SECONDS[1] * len(half.together.body.graph.nodes)
        if saving < costs:
            return _because(half, "not compiled, which would take longer than it saves")
    started = time.perf_counter()
    faster, fault = _compile(half, batch)
    if faster is None:
        return _because(half, f"not compiled: {fault}")
    took = time.perf_counter() - started
    if compiled:
        return _because(faster, f"compiled in {took:.0f} s")
    before, after = race(batch, half, faster)
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
    options: dict[str, Any] = {"freezing": True}
    if half.device.type == "cpu":
        # Compilers side by side take more memory than all that follows, for a fifth of the time.
        options["compile_threads"] = 1
        # What calls the kernels is C++ too, so that lanes run them without Python's lock. With it
        # one lane's pooling kept all others from even decoding: a fifth of SqueezeNet's time.
        options["cpp_wrapper"] = True
    body = torch.compile(half.body, dynamic=False, options=options)
    faster = replace(half, body=body, compiled=True, replay=None)
    try:
        with one_thread():  # compiled code computes on as many threads as compiled it
            faster(batch)
        faster = _captured(faster)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return None, f"the compiler failed ({str(error).strip().partition(chr(10))[0]})"
    return faster, ""


def _rearrange(exact: Runner, precision: Arithmetic) -> Runner:
    """Return the network folded and with channels last, in float32 or bfloat16."""
    body = copy.deepcopy(exact.together.body)
    fold_batch_norm(body)
    how = "float32 rearranged"
    if precision == "bf16":
        how = "bfloat16"
        _halve(body, exact.cut)
    body.to(memory_format=torch.channels_last)
    body = body.to(exact.device).eval()
    return _captured(replace(exact, body=body, precision=precision, how=how, replay=None))


def _captured(runner: Runner) -> Runner:
    """Capture what runs on a graphics card; a network that cannot be captured runs as it is."""
    if runner.device.type != "cuda":
        return runner
    try:
        return replace(runner, replay=CudaGraph(runner.body, runner.blank()))
    except RuntimeError as error:
        fault = str(error).strip().partition("\n")[0]
        return _because(runner, f"not captured as a CUDA graph ({fault})")


def _halve(body: fx.GraphModule, cut: Cut) -> None:
    """Bring a network to bfloat16, all but its last linear layer.

    Logits of 16 bits tie: on MobileNetV2, half of all changes of the top class came from it.
    """
    last = last_linear(body)
    kept = copy.deepcopy(body.get_submodule(str(last.target))) if last else None
    body.to(torch.bfloat16)
    body.preprocess = Normalize(cut.network, torch.bfloat16)
    if last is not None and kept is not None:
        with body.graph.inserting_before(last):
            last.args = (body.graph.call_method("float", last.args),)
        body.set_submodule(str(last.target), kept)
        body.recompile()


def _because(runner: Runner, reason: str) -> Runner:
    return replace(runner, how=f"{runner.how}; {reason}" if runner.how else reason)


def pick_device(name: str) -> str:
    """Return what DEVICE=`name` comes to: auto is the first CUDA device, or cpu without one."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _device(device: torch.device | str, precision: str) -> torch.device:
    if precision not in ("auto", *get_args(Arithmetic)):
        raise UserError(
            f"there is no {option('precision', precision)}: it is {' or '.join(PRECISIONS)}"
        )
    device = torch.device(device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"there is no CUDA device here: pass {option('device', 'cpu')}")
        # By default convolutions round float32 to 10 bits on the GPU, and may add in any order.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device
