"""The jobs as commands: ``python -m stages.<name>``; each parses, calls the library, exits."""
