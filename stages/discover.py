"""The command discover: `python -m stages.discover --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("discover")
