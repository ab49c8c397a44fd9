"""Many records in one directory: which there are, which of them go, and how they go.

``listing`` looks at all records of a directory, ``choice`` decides, ``pruning`` removes.
"""
