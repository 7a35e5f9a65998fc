"""The command verify: `python -m stages.verify --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("verify")
