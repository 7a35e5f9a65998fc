"""Replays a network's forward pass on a graphics card as one launch, whoever calls it.

Lanes launch operators from many threads at once, and each launch needs the interpreter: sixteen
lanes ran MobileNetV2 eagerly at 162 images per second on an H200, one alone at 19,000. Captured
once as a CUDA graph, a pass is one launch, made by one lane at a time; the kernels are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch

Body = Callable[[torch.Tensor], Sequence[torch.Tensor]]
WARM_UP = 3
"""Passes before the capture, in which libraries choose their kernels and take their memory."""


class CudaGraph:
    """A forward pass for batches of one shape, captured as a CUDA graph.

    Parameters
    ----------
    body : callable
        What to capture: one that does the same whatever the values.
    blank : Tensor
        A batch, on the device.

    Raises
    ------
    RuntimeError
        The pass cannot be captured.
    """

    def __init__(self, body: Body, blank: torch.Tensor) -> None:
        self._turn = threading.Lock()
        self._input = blank.clone()
        aside = torch.cuda.Stream(blank.device)
        aside.wait_stream(torch.cuda.current_stream(blank.device))
        with torch.cuda.stream(aside), torch.no_grad():
            for _ in range(WARM_UP):
                body(self._input)
        torch.cuda.current_stream(blank.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.no_grad():
            self._outputs = body(self._input)

    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Run the pass on a batch; the outputs are the caller's own."""
        with self._turn:
            self._input.copy_(images)
            self._graph.replay()
            return [each.clone() for each in self._outputs]
