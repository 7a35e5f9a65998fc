"""The schema of every table: columns, types, units and meanings, kept in the Parquet metadata."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

VERSION = "1.0"

INT, FLOAT, TEXT, FLAG = pa.int64(), pa.float64(), pa.string(), pa.bool_()
INT32, FLOAT32 = pa.int32(), pa.float32()
VECTOR = pa.list_(pa.field("element", pa.float32()))
INTS = pa.list_(pa.field("element", pa.int32()))

Column = tuple[str, pa.DataType, str]

ROW_GROUP = 65_536
"""Rows of a Parquet row group. A reader that wants a few rows reads the footer, which grows with
the number of groups, and one group: at 20 million rows both are near half a megabyte here."""

IMAGE_ID: Column = ("image_id", INT, "id derived from the image's path within the dataset")
CONCEPT_ID: Column = ("concept_id", INT32, "number of the concept, from 0, by energy")
BOX: list[Column] = [
    ("x0", INT32, "left edge of the box, original pixels"),
    ("y0", INT32, "top edge of the box, original pixels"),
    ("x1", INT32, "right edge of the box, exclusive, original pixels"),
    ("y1", INT32, "bottom edge of the box, exclusive, original pixels"),
    ("area", FLOAT32, "share of the image"),
]

TABLES: dict[str, tuple[str, list[Column]]] = {
    "images": (
        "an image",
        [
            IMAGE_ID,
            ("path", TEXT, "path within the dataset, undecodable bytes percent-escaped"),
            ("label", TEXT, "the dataset's label; null: none"),
            ("width", INT32, "original pixels, upright"),
            ("height", INT32, "original pixels, upright"),
            ("split", TEXT, "fit: W was fitted on it; heldout: kept for measuring"),
            ("pred_class", INT32, "the network's top class"),
            ("pred_label", TEXT, "name of that class"),
            ("pred_prob", FLOAT32, "its probability"),
            ("residual", FLOAT32, "‖v − D(W h)‖ / ‖v‖ over the image's positions"),
        ],
    ),
    "concepts": (
        "a concept",
        [
            CONCEPT_ID,
            ("layer", TEXT, "the layer it lives in"),
            ("n_images", INT, "images with at least one position where it is present"),
            ("coverage", FLOAT, "share of all positions where it is present"),
            ("energy", FLOAT, "share of ‖V‖² it explains; sums to 1 − error² over concepts"),
            ("stability", FLOAT, "matched cosine between fits on disjoint halves of the images"),
            (
                "presence_threshold",
                FLOAT,
                "strength from which on it counts as present, gauge units",
            ),
            ("threshold_reason", TEXT, "how that threshold came about"),
            ("importance", FLOAT, "mean drop of the predicted class's logit without it, logits"),
            (
                "sobol_total",
                FLOAT,
                "Sobol's total index of the predicted class's logit, mean over images; null: any"
                " other head than pool and linear",
            ),
            (
                "deletion_effect",
                FLOAT,
                "mean drop of the predicted probability without it, where present",
            ),
            (
                "insertion_effect",
                FLOAT,
                "mean rise of the predicted probability by it alone, where present",
            ),
            ("top_class", INT32, "class the head gives its context vector"),
            ("top_label", TEXT, "name of that class"),
            ("top_prob", FLOAT, "probability of that class"),
            ("top_p", FLOAT, "p of its largest z among real positions of like norm without it"),
            ("top_significant", FLAG, "better than chance after Benjamini-Hochberg at 0.05"),
            ("dataset_label", TEXT, "label of the dataset that goes with it most; null: none does"),
            ("dataset_precision", FLOAT, "share of the images that hold it that have that label"),
            ("dataset_lift", FLOAT, "that share over the label's share of all images"),
            (
                "labels_agree",
                FLAG,
                "that label and the head's top class are the same; null: unknown",
            ),
            (
                "error_excess",
                FLOAT,
                "how much oftener the network errs with it than without, within labels",
            ),
            ("error_ci_low", FLOAT, "lower end of the 95 % interval of that (Sato)"),
            ("error_ci_high", FLOAT, "upper end"),
            (
                "error_q",
                FLOAT,
                "p of the Cochran-Mantel-Haenszel test of that, after Benjamini-Hochberg",
            ),
            ("vector", VECTOR, "direction w_j, in transformed activation space"),
            ("context_vector", VECTOR, "context vector c_j, in transformed activation space"),
        ],
    ),
    "concept_classes": (
        "a concept and one of the classes the head gives it, the best ones",
        [
            CONCEPT_ID,
            ("source", TEXT, "context or direction: the vector the head was run on"),
            ("rank", INT32, "1 is the highest logit"),
            ("class_id", INT32, "the network's class"),
            ("label", TEXT, "name of the class"),
            ("logit", FLOAT, "the head's logit"),
            ("prob", FLOAT, "softmax over all classes"),
            ("z", FLOAT, "logit standardised by class over the null of real positions"),
        ],
    ),
    "concept_labels": (
        "a concept and a label of the dataset",
        [
            CONCEPT_ID,
            ("label", TEXT, "the dataset's label"),
            ("n", INT, "images with that label that hold the concept"),
            ("precision", FLOAT, "share of the images that hold it that have the label"),
            ("recall", FLOAT, "share of the images of the label that hold it"),
            ("lift", FLOAT, "precision over the label's share of all images"),
            ("phi", FLOAT, "correlation of holding it and having the label"),
            (
                "association_q",
                FLOAT,
                "p of holding it that often (hypergeometric), after Benjamini-Hochberg",
            ),
            ("head_rank", INT32, "rank the head gives the label's class; null: it has none"),
            ("head_prob", FLOAT, "probability the head gives it"),
            ("error_rate_with", FLOAT, "network's error rate on the label's images that hold it"),
            ("error_rate_without", FLOAT, "and on those that do not"),
            ("ci_low", FLOAT, "difference of the two, lower end of the 95 % interval (Newcombe)"),
            ("ci_high", FLOAT, "upper end"),
            ("q_value", FLOAT, "Fisher's exact p of the difference, after Benjamini-Hochberg"),
        ],
    ),
    "image_concepts": (
        "a concept in an image, where it is not zero throughout",
        [
            IMAGE_ID,
            CONCEPT_ID,
            ("mean", FLOAT32, "mean strength over the positions, gauge units"),
            ("max", FLOAT32, "largest strength, gauge units"),
            ("area", FLOAT32, "share of the image's positions where it is present"),
            ("peak_x", FLOAT32, "where it is strongest, original pixels"),
            ("peak_y", FLOAT32, "where it is strongest, original pixels"),
            ("contribution", FLOAT32, "to the predicted class, logits"),
        ],
    ),
    "regions": (
        "a connected region of a concept in an image",
        [IMAGE_ID, CONCEPT_ID, *BOX, ("score", FLOAT32, "mean strength within, gauge units")],
    ),
    "objects": (
        "a co-localized object of an image",
        [
            IMAGE_ID,
            (
                "concept_ids",
                INTS,
                "concepts present in it that are mostly foreground in images of its label",
            ),
            *BOX,
            (
                "score",
                FLOAT32,
                "mean foreground strength within: root of the length of its foreground part",
            ),
        ],
    ),
    "concept_pairs": (
        "two concepts, the lower number first",
        [
            ("concept_a", INT32, "a concept"),
            ("concept_b", INT32, "another concept"),
            ("cosine", FLOAT, "of their directions"),
            ("cooccurrence", FLOAT, "share of the images that hold both"),
            ("jaccard", FLOAT, "images that hold both over images that hold either"),
        ],
    ),
    "k_metrics": (
        "a number of concepts and a replicate of its evidence",
        [
            ("k", INT32, "number of concepts"),
            ("seed", INT, "of the replicate"),
            ("error", FLOAT, "relative error on the images fitted"),
            ("heldout_error", FLOAT, "relative error on the other half of the images"),
            ("bicv_error", FLOAT, "bi-cross-validated relative error"),
            ("seed_stability", FLOAT, "median matched cosine between seeds"),
            ("split_stability", FLOAT, "median matched cosine between halves of the images"),
            ("svd_error", FLOAT, "truncated SVD's error at this rank, the floor"),
            ("chosen", FLAG, "this k was chosen"),
        ],
    ),
    "fidelity": (
        "one measurement of what the concepts keep of the network",
        [
            (
                "metric",
                TEXT,
                "agreement, kl, accuracy; of another stand-in as agreement_svd; deletion,"
                " insertion: probability of the predicted class, concepts taken out or put in",
            ),
            ("split", TEXT, "the images it was measured on"),
            ("k", INT32, "number of concepts; null: all"),
            ("concept_id", INT32, "null: all"),
            ("level", FLOAT, "share of concepts in place; null: all"),
            ("class_id", INT32, "images the network gives this class; null: all"),
            ("value", FLOAT, "agreement and accuracy: share of images; kl: nats"),
            (
                "baseline",
                FLOAT,
                "the same with the mean activation in place; of curves: in random orders",
            ),
            ("n", INT, "images measured"),
        ],
    ),
    "rejected": (
        "an input that was refused",
        [("path", TEXT, "path within the dataset"), ("reason", TEXT, "why")],
    ),
}

ORDER: dict[str, tuple[str, ...]] = {
    "images": ("path",),
    "concepts": ("concept_id",),
    "concept_classes": ("concept_id", "source", "rank"),
    "concept_labels": ("concept_id", "label"),
    "image_concepts": ("concept_id", "-max", "image_id"),
    "regions": ("concept_id", "image_id", "-area", "y0", "x0"),
    "objects": ("image_id", "-area", "y0", "x0"),
    "concept_pairs": ("concept_a", "concept_b"),
    "k_metrics": ("k", "seed"),
    "fidelity": ("metric", "split", "k", "concept_id", "class_id", "level"),
    "rejected": ("path",),
}
"""How the rows of each table are ordered; ``-`` means falling. With image_concepts in this order
the strongest images of a concept lie side by side, in one row group or two."""

UNITS: dict[str, str] = {
    **dict.fromkeys(("width", "height", "x0", "y0", "x1", "y1", "peak_x", "peak_y"), "pixels"),
    **dict.fromkeys(("presence_threshold", "mean", "max", "regions.score"), "gauge units"),
    **dict.fromkeys(("importance", "contribution", "logit"), "logits"),
    **dict.fromkeys(("pred_prob", "top_prob", "top_p", "prob", "q_value"), "probability"),
    **dict.fromkeys(("deletion_effect", "insertion_effect"), "probability"),
    **dict.fromkeys(("coverage", "energy", "area", "precision", "recall", "level"), "share"),
    **dict.fromkeys(("error_rate_with", "error_rate_without", "cooccurrence", "jaccard"), "share"),
    **dict.fromkeys(("ci_low", "ci_high", "error_excess"), "difference of shares"),
    **dict.fromkeys(("error_ci_low", "error_ci_high"), "difference of shares"),
    **dict.fromkeys(("error_q", "association_q", "head_prob"), "probability"),
    **dict.fromkeys(("dataset_precision", "sobol_total"), "share"),
    **dict.fromkeys(("lift", "dataset_lift"), "ratio"),
    "phi": "correlation",
    **dict.fromkeys(("stability", "cosine", "seed_stability", "split_stability"), "cosine"),
    **dict.fromkeys(("error", "heldout_error", "bicv_error", "svd_error"), "relative norm"),
    **dict.fromkeys(("residual",), "relative norm"),
    **dict.fromkeys(("vector", "context_vector"), "activation"),
    **dict.fromkeys(("n_images", "n"), "images"),
    "z": "standard deviations",
    "objects.score": "roots of activation",
    "value": "by metric",
    "baseline": "by metric",
}
"""Units by column, or by table and column where tables differ; kept in the fields' metadata."""


def unit(table: str, column: str) -> str:
    """Return the unit of a column; empty for names, numbers of things and flags."""
    return UNITS.get(f"{table}.{column}", UNITS.get(column, ""))


def schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a table, meanings and units in the fields' metadata."""
    row, columns = TABLES[name]
    fields = [
        pa.field(column, dtype, metadata={"description": meaning, "unit": unit(name, column)})
        for column, dtype, meaning in columns
    ]
    metadata = {
        "encoding-type": f"concordance.{name}",
        "encoding-version": VERSION,
        "row": row,
        "order": ", ".join(ORDER[name]),
    }
    return pa.schema(fields, metadata=metadata)


def to_arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """Bring a frame to a table's schema; NaN becomes null."""
    wanted = schema(name)
    columns = []
    for field in wanted:
        values = frame[field.name]
        if pa.types.is_list(field.type):
            columns.append(pa.array(list(values), type=field.type))
        else:
            columns.append(pa.Array.from_pandas(values, type=field.type, safe=False))
    return pa.Table.from_arrays(columns, schema=wanted)


def describe() -> str:
    """Write all schemas as Markdown, the text of ``docs/TABLES.md``."""
    lines = [
        "# Tables",
        "",
        "Parquet files in `tables/` of a run, for DuckDB, pandas, polars, pyarrow and their like."
        " Columns may be added, not renamed. Each column's meaning and unit are in the metadata of"
        " its field, the table's name, version and order in that of the schema. Written by"
        " `make docs` from `pipeline/tables/schemas.py`.",
        "",
        "`tables/views.sql` makes them views of DuckDB, with paths relative to its folder, and a"
        " macro beside them:",
        "",
        "```sh",
        "cd runs/pets/tables && duckdb -init views.sql",
        "```",
        "",
        "```sql",
        "from images_with(7, min_area := 0.1) limit 50;",
        "```",
        "",
        f"Rows are in the order given below, in row groups of {ROW_GROUP:,}. As `image_concepts` is"
        " ordered by concept and falling strength, the strongest images of a concept are read from"
        " one row group or two, however long the table:",
        "",
        "```sql",
        "select * from image_concepts where concept_id = 7 order by max desc limit 50;",
        "```",
    ]
    for name, (row, columns) in TABLES.items():
        order = ", ".join(
            f"{key[1:]} (falling)" if key.startswith("-") else key for key in ORDER[name]
        )
        lines += ["", f"## {name}", "", f"A row is {row}. Ordered by {order}.", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [
            f"| {column} | {dtype} | {unit(name, column)} | {meaning} |"
            for column, dtype, meaning in columns
        ]
    return "\n".join(lines) + "\n"
