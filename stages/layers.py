"""The command layers: `python -m stages.layers --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("layers")
