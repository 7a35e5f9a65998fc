"""What a run keeps: the list of its images, shards of arrays by image, and the concept bank."""

from .bank import BANK, Bank, read_bank, write_bank
from .chunks import Chunks, compress, concatenate, write_texts
from .classification import (
    CLASSIFICATION,
    Claims,
    Classification,
    read_classification,
    write_classification,
)
from .encoding import Encoding, EncodingError, says_type
from .listing import BATCHES, LISTING, SHARD_BYTES, Listing, make_listing
from .objects import OBJECTS, read_objects, write_objects
from .positions import (
    PositionBlocks,
    n_sampled,
    sample_by_energy,
    sample_positions,
    whole_images,
)
from .probe import PROBE, Probe, read_probe, write_probe
from .records import Record, begin, check_whole, combine, read_begun, read_record, write_record
from .shards import ACTIVATIONS, HEATMAPS, Arrays, ShardStore, stored_size
from .suspects import SUSPECTS, Suspects, read_suspects, write_suspects
from .unfinished import UnfinishedFit

FORMATS = {
    "images": LISTING,
    "shards": ACTIVATIONS,
    "bank": BANK,
    "classes": CLASSIFICATION,
    "objects": OBJECTS,
    "probe": PROBE,
}
"""The files that a run is resumed from; docs/FORMAT.md describes them."""

__all__ = [
    "ACTIVATIONS",
    "BANK",
    "BATCHES",
    "CLASSIFICATION",
    "FORMATS",
    "HEATMAPS",
    "LISTING",
    "OBJECTS",
    "PROBE",
    "SHARD_BYTES",
    "SUSPECTS",
    "Arrays",
    "Bank",
    "Chunks",
    "Claims",
    "Classification",
    "Encoding",
    "EncodingError",
    "Listing",
    "PositionBlocks",
    "Probe",
    "Record",
    "ShardStore",
    "Suspects",
    "UnfinishedFit",
    "begin",
    "check_whole",
    "combine",
    "compress",
    "concatenate",
    "make_listing",
    "n_sampled",
    "read_bank",
    "read_begun",
    "read_classification",
    "read_objects",
    "read_probe",
    "read_record",
    "read_suspects",
    "sample_by_energy",
    "sample_positions",
    "says_type",
    "stored_size",
    "whole_images",
    "write_bank",
    "write_classification",
    "write_objects",
    "write_probe",
    "write_record",
    "write_suspects",
    "write_texts",
]
