"""Images: which ones a dataset holds, their pixels, and how they reach the network's input."""

from .ahead import reading_ahead
from .contents import content_digest
from .cost import DECODING
from .decode import decode, decode_bytes, decode_contents, read_original, stored_orientation
from .folder import FolderSource
from .formats import FORMATS
from .geometry import (
    PREPROCESSING,
    Affine,
    InputSize,
    Interpolation,
    Resize,
    Scaling,
    fit_to_input,
    sides,
    size_of,
)
from .inputs import (
    ImageLike,
    decoded,
    load_image,
    network_input,
    read_contents,
    read_image,
    sample_values,
)
from .limits import DecodeError
from .names import escape, find_file
from .pixel_rule import PixelRule
from .source import (
    Contents,
    Dataset,
    DatasetSource,
    ImageRecord,
    Rejected,
    Remark,
    list_dataset,
    make_image_id,
    make_record,
    open_dataset,
    unit_hash,
)
from .trouble import UNREADABLE
from .upsample import Grid, between_grids, upsample

__all__ = [
    "DECODING",
    "FORMATS",
    "PREPROCESSING",
    "UNREADABLE",
    "Affine",
    "Contents",
    "Dataset",
    "DatasetSource",
    "DecodeError",
    "FolderSource",
    "Grid",
    "ImageLike",
    "ImageRecord",
    "InputSize",
    "Interpolation",
    "PixelRule",
    "Rejected",
    "Remark",
    "Resize",
    "Scaling",
    "between_grids",
    "content_digest",
    "decode",
    "decode_bytes",
    "decode_contents",
    "decoded",
    "escape",
    "find_file",
    "fit_to_input",
    "list_dataset",
    "load_image",
    "make_image_id",
    "make_record",
    "network_input",
    "open_dataset",
    "read_contents",
    "read_image",
    "read_original",
    "reading_ahead",
    "sample_values",
    "sides",
    "size_of",
    "stored_orientation",
    "unit_hash",
    "upsample",
]
