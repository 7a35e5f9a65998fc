"""The command status: `python -m stages.status --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("status")
