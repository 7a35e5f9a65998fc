"""The command export: `python -m stages.export --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("export")
