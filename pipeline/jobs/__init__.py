"""The jobs of a run, one module a stage: each takes a `Workspace` and returns its counts."""
