"""The jobs as commands: ``python -m stages.<name>``; each is a few lines above `pipeline.cli`."""
