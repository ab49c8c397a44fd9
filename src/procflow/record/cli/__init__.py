"""The command line ``python -m procflow record``: its grammar, one function per command, exit statuses.

Data goes to standard output, everything for people about the command itself to standard error.  Imported by ``procflow.__main__``
only: whoever imports ``procflow.record`` does not pay for it.
"""
