"""Images: which ones a dataset holds, their pixels, and how they reach the network's input."""

from pipeline.images.decode import (
    DecodeError,
    content_digest,
    decode,
    decode_bytes,
    read_bytes,
    read_original,
)
from pipeline.images.geometry import PREPROCESSING, Affine, fit_to_square
from pipeline.images.sources import (
    Dataset,
    ImageRecord,
    Rejected,
    find_file,
    list_dataset,
    make_image_id,
    unit_hash,
)
from pipeline.images.upsample import Grid, between_grids, upsample

__all__ = [
    "PREPROCESSING",
    "Affine",
    "Dataset",
    "DecodeError",
    "Grid",
    "ImageRecord",
    "Rejected",
    "between_grids",
    "content_digest",
    "decode",
    "decode_bytes",
    "find_file",
    "fit_to_square",
    "list_dataset",
    "make_image_id",
    "read_bytes",
    "read_original",
    "unit_hash",
    "upsample",
]
