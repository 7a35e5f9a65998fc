"""The command evaluate: `python -m stages.evaluate --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("evaluate")
