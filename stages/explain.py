"""The command explain: `python -m stages.explain --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("explain")
