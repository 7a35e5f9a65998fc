"""The command localize: `python -m stages.localize --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("localize")
