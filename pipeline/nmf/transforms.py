"""From signed activations to the non-negative data that are factorized, and back.

Notation: V (positions × channels) activations, X = forward(V) ≥ 0 what W and H factorize,
D = decode, L its linear part; D(x) = L(x) + constant.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError, suggest

KINDS = ("none", "relu", "split", "shift")


@dataclass(frozen=True, eq=False)
class Transform:
    """A fixed way from activations to non-negative data, stored with the concepts.

    Attributes
    ----------
    kind : {'none', 'relu', 'split', 'shift'}
        What `forward` does: nothing; keep the positive part; positive and negative parts side by
        side, twice the channels; subtract `offset`.
    offset : Tensor, optional
        (channels,) float32, for `shift`: each channel's minimum over the fit set.
    """

    kind: str
    offset: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = suggest(self.kind, KINDS)
            raise UserError(
                f"unknown transform {self.kind!r}; there are {', '.join(KINDS)}. {near}"
            )
        if (self.kind == "shift") != (self.offset is not None):
            raise ValueError("an offset belongs to the transform 'shift', and only to it")

    def n_channels_out(self, n_channels: int) -> int:
        """Give the number of channels of `forward`'s result for activations of `n_channels`."""
        return 2 * n_channels if self.kind == "split" else n_channels

    def forward(self, V: Tensor) -> Tensor:
        """Make activations non-negative.

        Parameters
        ----------
        V : Tensor
            (..., channels) float32 or float16.

        Returns
        -------
        Tensor
            (..., channels), of `split` (..., 2 × channels), of V's type; of `shift` float32. Under
            `shift`, values below the fit set's minimum stay negative: they are kept, not clamped.

        Raises
        ------
        UserError
            If the kind is `none` and V has a negative value.
        """
        if self.kind == "relu":
            return V.clamp(min=0)
        if self.kind == "split":
            return torch.cat([V.clamp(min=0), (-V).clamp(min=0)], dim=-1)
        if self.offset is not None:
            return V - self.offset.to(V.device)
        if V.numel():
            _refuse_negative(float(V.min()))
        return V

    def linear(self, x: Tensor) -> Tensor:
        """Apply L, the linear part of the decoder, to (..., channels of `forward`)."""
        if self.kind == "split":
            positive, negative = x.chunk(2, dim=-1)
            return positive - negative
        return x

    def pull(self, rows: Tensor) -> Tensor:
        """Give the linear maps (maps, channels of `forward`) that are `rows` after `linear`."""
        return torch.cat([rows, -rows], dim=-1) if self.kind == "split" else rows

    def decode(self, x: Tensor) -> Tensor:
        """Apply D: give back activations (..., channels) from (..., channels of `forward`)."""
        decoded = self.linear(x)
        return decoded if self.offset is None else decoded + self.offset.to(decoded.device)


def choose_transform(name: str, minimum: Tensor | float) -> Transform:
    """Settle the transform of a layer once its activations' minimum is known.

    Parameters
    ----------
    name : str
        'auto' (`none` where nothing is negative, else `split`) or one of `KINDS`; `relu` and
        `shift` exist for comparison and warn.
    minimum : Tensor or float
        The least activation of the fit set; for `shift`, (channels,) of each channel.

    Returns
    -------
    Transform
        Ready to use.

    Raises
    ------
    UserError
        If the name is unknown, or `none` is asked for and something is negative.
    """
    minima = torch.as_tensor(minimum, dtype=torch.float32)
    least = float(minima.min())
    if name == "auto":
        return Transform("none" if least >= 0 else "split")
    if name == "none":
        _refuse_negative(least)
    if name in ("relu", "shift"):
        lost = "drops the negative part" if name == "relu" else "makes almost all of H non-zero"
        warnings.warn(f"the transform {name!r} {lost}; 'auto' does not choose it", stacklevel=2)
    return Transform(name, minima if name == "shift" else None)


def why_transform(kind: str, V: Tensor) -> str:
    """Say in a sentence why 'auto' takes the transform it does.

    Parameters
    ----------
    kind : str
        What `choose_transform` chose.
    V : Tensor (positions, channels)
        Some activations of the layer.
    """
    if kind == "none":
        return "no activation of the layer is negative"
    share = float((V < 0).float().mean())
    many = f"{share:.0%}" if share >= 0.01 else "less than 1%"
    return (
        f"{many} of the layer's activations are negative, so that positive and negative parts are"
        " kept apart"
    )


def _refuse_negative(least: float) -> None:
    if least < 0:
        raise UserError(
            f"the activations are negative in places (minimum {least:.4g}), which the transform "
            "'none' does not allow; use 'auto' or 'split'"
        )
