"""The output of one call as a file: two streams, a time on every line, and the exact bytes.

``format`` is a line, ``splitter`` makes lines of a stream, ``lane`` takes secrets out before, ``cap`` decides what is kept of
too much, ``storage`` keeps it in files, ``writer`` is the log of one call, ``reader`` gives it back, ``paths`` says where it
is.  Must not know events or processes, nor read a clock: whoever read the bytes says when.
"""

from __future__ import annotations

from procflow.record.logs.format import Dropped, LogLine, LogStream
from procflow.record.logs.paths import job_directory, job_id_of, log_path
from procflow.record.logs.reader import Damaged, LogItem, read_log, read_output
from procflow.record.logs.writer import CallLog, LogSummary

__all__ = (
    "CallLog",
    "Damaged",
    "Dropped",
    "LogItem",
    "LogLine",
    "LogStream",
    "LogSummary",
    "job_directory",
    "job_id_of",
    "log_path",
    "read_log",
    "read_output",
)
