"""The jobs of a run, one module per stage: each takes a `Workspace` and returns its counts."""
