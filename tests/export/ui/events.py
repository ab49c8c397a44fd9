"""Events of a run as tests write them: times in seconds, everything else as it is."""

from __future__ import annotations

from typing import Any, TypeVar

from procflow.record import Event, stamped
from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import Finished, Progress, ProgressInit, RunStarted, Started, Status
from procflow_export.ui.board import Board

E = TypeVar("E", bound=Event)
RUN_ID = "0190a0b0-0000-7000-8000-000000000000"


def at(seconds: float, event: E) -> E:
    return stamped(event, seq=0, at_ms=0, mono_ns=round(seconds * 1e9))


def begun(*names: str, max_units: int = 2) -> Board:
    board = Board()
    board.apply(at(0.0, RunStarted(run_id=RUN_ID, exports=names, engine="processes", max_units=max_units)))
    return board


def start(board: Board, name: str, seconds: float = 0.0, *, chunks: int = 4, estimate: int | None = None) -> None:
    board.apply(at(seconds, Started(run_id=RUN_ID, export=name, mode="chunked", source="sqlite", format="parquet")))
    board.apply(at(seconds, ProgressInit(export=name, total_chunks=chunks, row_estimate=estimate)))


def progress(
    board: Board, name: str, seconds: float, rows: int, *, done: int = 0, chunks: int = 4, size: int = 0
) -> None:
    board.apply(
        at(seconds, Progress(export=name, chunks_done=done, total_chunks=chunks, row_count=rows, size_bytes=size))
    )


def succeed(board: Board, name: str, seconds: float, rows: int, **fields: Any) -> None:
    values = {
        "part_count": 4,
        "size_bytes": rows * 10,
        "chunk_count": 4,
        "elapsed_s": seconds,
        "peak_rss_bytes": 90 << 20,
    }
    board.apply(
        at(
            seconds,
            Finished(run_id=RUN_ID, export=name, status=Status.SUCCESS, row_count=rows, **(values | fields)),
        )
    )


def fail(board: Board, name: str, seconds: float, message: str, code: Code = Code.SOURCE_DENIED, **fields: Any) -> None:
    failure = Failure(code=code, message=message, **fields)
    board.apply(
        at(seconds, Finished(run_id=RUN_ID, export=name, status=Status.FAILED, elapsed_s=seconds, failure=failure))
    )
