"""The command pin: `python -m stages.pin --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("pin")
