"""The command sample-model: `python -m stages.sample_model --help`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main("sample-model")
