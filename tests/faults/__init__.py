"""Faults below Python: jobs that are killed, or whose writes fail, at a call of one's choosing."""
