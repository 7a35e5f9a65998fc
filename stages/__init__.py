"""The jobs as commands: ``python -m stages.<name>``; each parses, calls the library, exits."""

from pipeline.heap import share_heap

share_heap()  # here, for importing torch already starts threads
