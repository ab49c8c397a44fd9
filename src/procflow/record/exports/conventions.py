"""The names of OpenTelemetry's semantic conventions that are used here, in one table.

Owns the words.  Must not know which row says what.

The conventions for processes and for pipelines are in *development*: their names may change, and then they change here.  The sources
are ``https://opentelemetry.io/docs/specs/semconv/`` + ``cli/cli-spans/``, ``cicd/cicd-spans/``, ``registry/attributes/cicd/``,
``registry/attributes/process/`` and ``registry/attributes/error/``, as of version 1.44.
"""

from __future__ import annotations

from typing import Final

from procflow.record.events import CANCELLED, ERRORED, FAILED, LOST, SKIPPED, SUCCEEDED

SERVICE_NAME: Final = "service.name"
HOST_NAME: Final = "host.name"

PIPELINE_NAME: Final = "cicd.pipeline.name"
PIPELINE_RUN_ID: Final = "cicd.pipeline.run.id"
PIPELINE_RESULT: Final = "cicd.pipeline.result"
TASK_NAME: Final = "cicd.pipeline.task.name"
TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
TASK_RUN_RESULT: Final = "cicd.pipeline.task.run.result"

EXECUTABLE_NAME: Final = "process.executable.name"
EXECUTABLE_PATH: Final = "process.executable.path"
PROCESS_PID: Final = "process.pid"
EXIT_CODE: Final = "process.exit.code"
WORKING_DIRECTORY: Final = "process.working_directory"
COMMAND_ARGS: Final = "process.command_args"

ERROR_TYPE: Final = "error.type"
ERROR_OTHER: Final = "_OTHER"
"""What ``error.type`` says if nobody knows."""
ERROR_TIMEOUT: Final = "timeout"

# Ours, for what no convention names.
ATTEMPT: Final = "procflow.job.attempt"
SH: Final = "procflow.job.sh"
OUTCOME: Final = "procflow.record.outcome"

RESULTS: Final = {
    SUCCEEDED: "success",
    FAILED: "failure",
    ERRORED: "error",
    CANCELLED: "cancellation",
    SKIPPED: "skip",
    LOST: "error",
}
"""Results of a run and of a job attempt; a word of a later version stays as it is."""

RESULT_TIMEOUT: Final = "timeout"
"""The result of what ended because its time was up, as its exception says."""

TIMEOUT_ERRORS: Final = frozenset({"TimedOut", "TimeoutError"})
"""Exception classes that say so."""
