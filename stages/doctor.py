"""The command doctor: `python -m stages.doctor --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("doctor")
