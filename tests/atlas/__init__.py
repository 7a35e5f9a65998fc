"""Tests of atlas."""
