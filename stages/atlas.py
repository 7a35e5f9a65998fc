"""The command atlas: `python -m stages.atlas --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("atlas")
