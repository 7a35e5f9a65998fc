"""The command clean: `python -m stages.clean --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("clean")
