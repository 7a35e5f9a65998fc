"""Images: which ones a dataset holds, their pixels, and how they reach the network's input."""

from .decode import (
    DECODING,
    FORMATS,
    content_digest,
    decode,
    decode_bytes,
    decode_contents,
    read_original,
)
from .folder import FolderSource, find_file
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
from .inputs import ImageLike, decoded, load_image, network_input, read_contents, read_image
from .limits import DecodeError
from .source import (
    Contents,
    Dataset,
    DatasetSource,
    ImageRecord,
    Rejected,
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
    "Rejected",
    "Resize",
    "Scaling",
    "between_grids",
    "content_digest",
    "decode",
    "decode_bytes",
    "decode_contents",
    "decoded",
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
    "sides",
    "size_of",
    "unit_hash",
    "upsample",
]
