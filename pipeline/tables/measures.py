"""Tables of measurements, and of what was refused."""

from __future__ import annotations

from .column import FLAG, FLOAT, INT, INT32, TEXT, Column, Table

K_METRICS = Table(
    "k_metrics",
    "a number of concepts and a replicate of its evidence",
    (
        Column("k", INT32, "number of concepts"),
        Column("seed", INT, "of the replicate"),
        Column("error", FLOAT, "relative error on the images fitted", "relative norm"),
        Column(
            "heldout_error",
            FLOAT,
            "relative error on the other half of the images",
            "relative norm",
        ),
        Column("bicv_error", FLOAT, "bi-cross-validated relative error", "relative norm"),
        Column("seed_stability", FLOAT, "median matched cosine between seeds", "cosine"),
        Column(
            "split_stability", FLOAT, "median matched cosine between halves of the images", "cosine"
        ),
        Column(
            "svd_error", FLOAT, "truncated SVD's error at this rank, the floor", "relative norm"
        ),
        Column("chosen", FLAG, "this k was chosen"),
    ),
    order=("k", "seed"),
)

FIDELITY = Table(
    "fidelity",
    "one measurement of what the concepts keep of the network",
    (
        Column(
            "metric",
            TEXT,
            "agreement, kl, accuracy; of another stand-in as agreement_svd; deletion,"
            " insertion: probability of the predicted class, concepts taken out or put in;"
            " probe_accuracy: of the head under HEAD=probe, beside chance",
        ),
        Column("split", TEXT, "the images it was measured on"),
        Column("k", INT32, "number of concepts; null: all"),
        Column("concept_id", INT32, "null: all"),
        Column("level", FLOAT, "share of concepts in place; null: all", "share"),
        Column("class_id", INT32, "images the network gives this class; null: all"),
        Column("value", FLOAT, "agreement and accuracy: share of images; kl: nats", "by metric"),
        Column(
            "baseline",
            FLOAT,
            "the same with the mean activation in place; of curves: in random orders",
            "by metric",
        ),
        Column("n", INT, "images measured", "images"),
    ),
    order=("metric", "split", "k", "concept_id", "class_id", "level"),
)

REJECTED = Table(
    "rejected",
    "an input that was refused",
    (
        Column("path", TEXT, "path within the dataset"),
        Column("reason", TEXT, "why"),
    ),
    order=("path",),
)
