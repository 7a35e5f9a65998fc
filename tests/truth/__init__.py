"""Tests of ground truth."""
