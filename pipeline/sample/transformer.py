"""The sample's vision transformer, for the same scenes: tokens, attention, a class token.

A convolutional stem makes 20 × 20 tokens of an image; it begins as the shipped convolutional
network's. In the first two blocks a position attends to its neighbours, and the class token to all
of them, so that evidence for a part stays where the part is. `PARTS_LAYER` follows, not negative;
then the class token reads all positions and answers alone. Measured on the bundled sample, K=auto
(32 concepts; mean IoU as in `pipeline.sample.network`, of the product's own maps):

=========  ======  ========  ================  ===========
layer      grid    part IoU  grad-cam's rule   sign
=========  ======  ========  ================  ===========
blocks.0   20×20   0.39      0.24              signed
blocks.1   20×20   0.40      0.29              signed
parts      20×20   0.33      0.26              none below 0
=========  ======  ========  ================  ===========
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from . import network as convolutional
from .objects import CLASSES

__all__ = ["PARTS_LAYER", "WEIGHTS", "SampleViT", "load"]

IMAGE_SIZE = convolutional.IMAGE_SIZE
PARTS_LAYER = "parts"
WEIGHTS = Path(__file__).with_name("sample_vit.safetensors")

PATCH = 8
"""Pixels between tokens: the stem halves images three times."""

WIDTH, N_HEADS, N_PARTS = 64, 2, 192
"""Channels of the tokens, heads of the attention, channels of `PARTS_LAYER`."""

NEAR = 1
"""How many tokens away a position looks, in each of the first blocks."""


class SampleViT(nn.Module):
    """A transformer of three blocks, the last one read by the class token.

    Parameters
    ----------
    n_classes : int
    size : (int, int)
        Height and width of its images, multiples of `PATCH`.

    Notes
    -----
    Input: float32 (b, 3, height, width), RGB, normalised as that of the convolutional network.
    Output: logits (b, classes).
    """

    neighbours: torch.Tensor

    def __init__(
        self, n_classes: int = len(CLASSES), size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
    ) -> None:
        super().__init__()
        rows, columns = (side // PATCH for side in size)
        self.stem = nn.Sequential(*_stem(), nn.Conv2d(96, WIDTH, 1))
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + rows * columns, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, WIDTH) for _ in range(2))
        self.parts = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, N_PARTS), nn.ReLU())
        self.read = Block(N_PARTS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, n_classes)
        self.register_buffer("neighbours", _neighbours(rows, columns), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch."""
        return self.classify(self.tokens(images))

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Return `PARTS_LAYER`, (b, 1 + positions, 192), the class token first; not negative."""
        positions = self.stem(images).flatten(2).transpose(1, 2)
        token = self.class_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat([token, positions], dim=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens, self.neighbours)
        parts: torch.Tensor = self.parts(tokens)
        return parts

    def classify(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of such activations."""
        logits: torch.Tensor = self.head(self.norm(self.read(tokens)[:, 0]))
        return logits


class Block(nn.Module):
    """Attention and a perceptron, each added to its input; normalisation comes first."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inward)
        self.qkv = nn.Linear(inward, 3 * outward)
        self.proj = nn.Linear(outward, outward)
        self.shortcut = nn.Identity() if inward == outward else nn.Linear(inward, outward)
        self.norm2 = nn.LayerNorm(outward)
        self.mlp = nn.Sequential(
            nn.Linear(outward, 4 * outward), nn.GELU(), nn.Linear(4 * outward, outward)
        )

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Return tokens (b, n, outward); `seen`, bool (n, n), says who attends to whom."""
        qkv = self.qkv(self.norm1(tokens)).unflatten(2, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=seen)
        tokens = self.shortcut(tokens) + self.proj(found.transpose(1, 2).flatten(2))
        more: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return more


def load(path: Path = WEIGHTS) -> SampleViT:
    """Return the network with the weights of a file, in float32 and evaluation mode."""
    return convolutional.filled(SampleViT(), path)


def fit_positions(state: dict[str, torch.Tensor], size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Interpolate what weights say of positions to images of another size."""
    rows, columns = (side // PATCH for side in size)
    side = IMAGE_SIZE // PATCH
    known = state["positions"]
    if known.shape[1] != 1 + side**2 or (rows, columns) == (side, side):
        return state
    grid = known[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    sized = functional.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
    positions = torch.cat([known[:, :1], sized.flatten(2).transpose(1, 2)], dim=1)
    return state | {"positions": positions}


def _stem() -> list[nn.Module]:
    shipped = convolutional.SampleNet()
    return [shipped.stem, shipped.edges, shipped.shapes]


def _neighbours(rows: int, columns: int) -> torch.Tensor:
    """Say who attends to whom, bool (n, n): the class token to all, a position to those near it."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()])
    apart = (places[:, :, None] - places[:, None]).abs().amax(0)
    seen = torch.zeros(1 + rows * columns, 1 + rows * columns, dtype=torch.bool)
    seen[0], seen[1:, 1:] = True, apart <= NEAR
    return seen
