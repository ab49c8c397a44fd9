"""The configuration: the YAML, JSON or TOML file as structs, interpolation, and everything that is wrong with it at once.

Must not know databases, event loops or the command line.
"""
