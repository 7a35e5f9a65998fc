"""Non-negative matrix factorization of activations at dataset scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.nmf.checkpoint import Checkpoint
from pipeline.nmf.choose import KChoice, choose_k
from pipeline.nmf.consensus import consensus
from pipeline.nmf.data import ArrayBlocks, Blocks
from pipeline.nmf.denormals import denormals_flushed, flush_denormals
from pipeline.nmf.descent import Fit, Penalty
from pipeline.nmf.draw import thin
from pipeline.nmf.engine import fit, fit_many, refine, sample_size
from pipeline.nmf.evaluate import gram, match, svd_error, svd_errors
from pipeline.nmf.initialise import initialise
from pipeline.nmf.passes import ENCODE_TOL, block_stats, sweep
from pipeline.nmf.sampling import Start, fit_sample, fit_samples
from pipeline.nmf.solve import H_TOL, Encoder, encode
from pipeline.nmf.splits import bi_cv_error, channel_folds, halves, shuffle_channels
from pipeline.nmf.stats import (
    Stats,
    accumulate,
    context_vectors,
    energies,
    gauge,
    relative_error,
    rows_at_once,
)
from pipeline.nmf.transforms import Transform, choose_transform

if TYPE_CHECKING:
    from pipeline.nmf.estimator import NMF

__all__ = [
    "ENCODE_TOL",
    "H_TOL",
    "NMF",
    "ArrayBlocks",
    "Blocks",
    "Checkpoint",
    "Encoder",
    "Fit",
    "KChoice",
    "Penalty",
    "Start",
    "Stats",
    "Transform",
    "accumulate",
    "bi_cv_error",
    "block_stats",
    "channel_folds",
    "choose_k",
    "choose_transform",
    "consensus",
    "context_vectors",
    "denormals_flushed",
    "encode",
    "energies",
    "fit",
    "fit_many",
    "fit_sample",
    "fit_samples",
    "flush_denormals",
    "gauge",
    "gram",
    "halves",
    "initialise",
    "match",
    "refine",
    "relative_error",
    "rows_at_once",
    "sample_size",
    "shuffle_channels",
    "svd_error",
    "svd_errors",
    "sweep",
    "thin",
]


def __getattr__(name: str) -> Any:
    """Import the estimator when it is asked for: scikit-learn takes longer than all the rest."""
    if name == "NMF":
        from pipeline.nmf.estimator import NMF

        return NMF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
