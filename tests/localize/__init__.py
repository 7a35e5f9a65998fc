"""Tests of localize."""
