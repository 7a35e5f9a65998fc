"""What a run keeps: the list of its images, shards of arrays by image, and the concept bank."""

from pipeline.store.bank import Bank, read_bank, write_bank
from pipeline.store.classification import (
    Classification,
    read_classification,
    write_classification,
)
from pipeline.store.listing import Listing, make_listing
from pipeline.store.positions import PositionBlocks, sample_positions
from pipeline.store.shards import ShardStore

__all__ = [
    "Bank",
    "Classification",
    "Listing",
    "PositionBlocks",
    "ShardStore",
    "make_listing",
    "read_bank",
    "read_classification",
    "sample_positions",
    "write_bank",
    "write_classification",
]
