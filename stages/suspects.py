"""The command suspects: `python -m stages.suspects --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("suspects")
