"""The command extract: `python -m stages.extract --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("extract")
