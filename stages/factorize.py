"""The command factorize: `python -m stages.factorize --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("factorize")
