"""Tests of nmf."""
