"""The command line: its grammar, one function per command, exit statuses.

Data goes to standard output, everything for people to standard error.  Imported by ``__main__`` only.
"""
