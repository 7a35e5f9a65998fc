"""What a run keeps: the list of its images, shards of arrays by image, and the concept bank."""

from pipeline.store import bank, classification, listing, shards
from pipeline.store.bank import Bank, read_bank, write_bank
from pipeline.store.chunks import Chunks, compress, concatenate, write_texts
from pipeline.store.classification import (
    Classification,
    read_classification,
    write_classification,
)
from pipeline.store.listing import BATCHES, SHARD_BYTES, Listing, make_listing
from pipeline.store.positions import PositionBlocks, sample_by_energy, sample_positions
from pipeline.store.records import Record, combine, read_record, write_record
from pipeline.store.shards import Arrays, ShardStore, stored_size
from pipeline.store.unfinished import UnfinishedFit

FORMATS = {
    "images": listing.VERSION,
    "shards": shards.VERSION,
    "bank": bank.VERSION,
    "classes": classification.VERSION,
}
"""Versions of the files that a run is resumed from; docs/FORMAT.md describes them."""

__all__ = [
    "BATCHES",
    "FORMATS",
    "SHARD_BYTES",
    "Arrays",
    "Bank",
    "Chunks",
    "Classification",
    "Listing",
    "PositionBlocks",
    "Record",
    "ShardStore",
    "UnfinishedFit",
    "combine",
    "compress",
    "concatenate",
    "make_listing",
    "read_bank",
    "read_classification",
    "read_record",
    "sample_by_energy",
    "sample_positions",
    "stored_size",
    "write_bank",
    "write_classification",
    "write_record",
    "write_texts",
]
