"""Non-negative matrix factorization of activations at dataset scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..system.denormals import denormals_flushed, flush_denormals
from .checkpoint import Checkpoint
from .choose import KChoice, choose_k
from .consensus import consensus
from .data import ArrayBlocks, Blocks
from .descent import Fit, Penalty
from .draw import thin
from .engine import fit, fit_many, refine, sample_size
from .evaluate import gram, match, svd_error, svd_errors
from .faithful import Taught, teach
from .halved import judge_sparse
from .initialise import initialise
from .lengths import better_at_unit_length, shortened
from .levels import SAMPLE as TREE_SAMPLE
from .levels import Above, grow, make_tree, measured
from .passes import ENCODE_TOL, block_stats, sweep
from .pursuit import Codes, Pursuit
from .reappear import ALIKE, N_REPLICATES, Reappearance, reappearance, replicates
from .sampling import Start, fit_sample, fit_samples
from .solve import H_TOL, Encoder, encode
from .sparse import DENSE, active_of, fit_sparse_sample, power_of, sparse_sample_size
from .splits import bi_cv_error, channel_folds, halves, shuffle_channels
from .stats import Stats, accumulate, context_vectors, energies, gauge, relative_error, rows_at_once
from .transforms import Transform, choose_transform, why_transform
from .tree import (
    SEVERAL,
    Level,
    Tree,
    TreeCut,
    cut_tree,
    level_parents,
    level_sizes,
    nodes_at,
    parents,
)
from .work import Work

if TYPE_CHECKING:
    from .estimator import NMF

__all__ = [
    "ALIKE",
    "DENSE",
    "ENCODE_TOL",
    "H_TOL",
    "NMF",
    "N_REPLICATES",
    "SEVERAL",
    "TREE_SAMPLE",
    "Above",
    "ArrayBlocks",
    "Blocks",
    "Checkpoint",
    "Codes",
    "Encoder",
    "Fit",
    "KChoice",
    "Level",
    "Penalty",
    "Pursuit",
    "Reappearance",
    "Start",
    "Stats",
    "Taught",
    "Transform",
    "Tree",
    "TreeCut",
    "Work",
    "accumulate",
    "active_of",
    "better_at_unit_length",
    "bi_cv_error",
    "block_stats",
    "channel_folds",
    "choose_k",
    "choose_transform",
    "consensus",
    "context_vectors",
    "cut_tree",
    "denormals_flushed",
    "encode",
    "energies",
    "fit",
    "fit_many",
    "fit_sample",
    "fit_samples",
    "fit_sparse_sample",
    "flush_denormals",
    "gauge",
    "gram",
    "grow",
    "halves",
    "initialise",
    "judge_sparse",
    "level_parents",
    "level_sizes",
    "make_tree",
    "match",
    "measured",
    "nodes_at",
    "parents",
    "power_of",
    "reappearance",
    "refine",
    "relative_error",
    "replicates",
    "rows_at_once",
    "sample_size",
    "shortened",
    "shuffle_channels",
    "sparse_sample_size",
    "svd_error",
    "svd_errors",
    "sweep",
    "teach",
    "thin",
    "why_transform",
]


def __getattr__(name: str) -> Any:
    """Import the estimator when it is asked for: scikit-learn takes longer than all the rest."""
    if name == "NMF":
        from .estimator import NMF

        return NMF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
