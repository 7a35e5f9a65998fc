"""Damaged files are fed to all that reads files: each ends in a value or in a sentence."""
