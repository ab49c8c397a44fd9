"""The output of one call as a file: two streams, a time on every line, and the exact bytes.

``format`` is a line, ``splitter`` makes lines of a stream, ``lane`` takes secrets out before, ``cap`` decides what is kept of
too much, ``storage`` keeps it in files, ``writer`` is the log of one call, ``reader`` gives it back, ``paths`` says where it
is.  Must not know events or processes, nor read a clock: whoever read the bytes says when.
"""
