"""The command line: parsing, help, exit codes, terminal tables; what is computed is the library's.

Nothing heavy is imported before a command works, so that help is there at once.
"""
