"""A secret that was not known in time, taken out of a record that is over.

``events`` and ``outputs`` say what a line and a log become, ``replacing`` puts a new file in the place of an old one, ``logs`` finds the
logs of a run, ``scrub`` does one after the other.
"""
