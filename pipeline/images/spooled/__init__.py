"""Datasets that are no files with stable offsets: written once into tar shards, then read there."""
