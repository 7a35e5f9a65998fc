"""Images: which ones a dataset holds, their pixels, and how they reach the network's input."""

from pipeline.images.decode import DecodeError, decode, read_original
from pipeline.images.geometry import Affine, fit_to_square
from pipeline.images.sources import (
    Dataset,
    ImageRecord,
    Rejected,
    find_file,
    list_dataset,
    make_image_id,
    unit_hash,
)
from pipeline.images.upsample import Grid, upsample

__all__ = [
    "Affine",
    "Dataset",
    "DecodeError",
    "Grid",
    "ImageRecord",
    "Rejected",
    "decode",
    "find_file",
    "fit_to_square",
    "list_dataset",
    "make_image_id",
    "read_original",
    "unit_hash",
    "upsample",
]
