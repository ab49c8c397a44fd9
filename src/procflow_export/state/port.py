"""What a state store must do: remember runs, and let one run at a time work on an export.

Owns the contract, which one conformance suite checks for every implementation.  Must not know a database.

Every method blocks and may be called from any thread, one at a time.  What a method wrote is there after it returned, for
every process; SIGKILL loses nothing of it, a power failure perhaps the last moments.  Every method raises ``StateError`` when
the state cannot be read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from procflow_export.model.ledger import (
    ChunkEntry,
    CursorEntry,
    ExportEntry,
    FileEntry,
    Lease,
    RunEntry,
    SealedPlan,
    Standing,
)
from procflow_export.model.manifest import StoredCursor
from procflow_export.model.plan import UnitResult


@runtime_checkable
class StateStore(Protocol):
    """The memory of one configuration's runs; ``location`` names it for people."""

    @property
    def location(self) -> str: ...

    # ---- leases

    def leased(self, export: str, run_id: str | None) -> AbstractContextManager[None]:
        """Work on ``export`` alone while the block lasts; the lease ends with the process that holds it, however that ends.

        Raises:
            StateError: ``EXPORT_LEASED`` at once, if another run or command works on it.
        """
        ...

    def lease(self, export: str) -> Lease | None:
        """Return who works on ``export`` at this moment."""
        ...

    # ---- what a run writes

    def begin_run(self, run: RunEntry) -> None: ...

    def end_run(self, run_id: str, standing: Standing, exit_status: int, finished_at: str) -> None: ...

    def begin_export(self, entry: ExportEntry) -> None:
        """Remember that a run works on an export; earlier runs of it that never ended have died.  Call it under the lease.

        A run that begins an export once more, since its source did not answer, has done nothing of it so far.
        """
        ...

    def plan_export(
        self,
        run_id: str,
        export: str,
        plan: SealedPlan,
        kept: Mapping[int, UnitResult],
        resumed_from: str | None,
        at: str,
    ) -> None:
        """Remember how an export is cut, and what it keeps of an earlier run; whatever it had done so far is forgotten."""
        ...

    def begin_chunk(self, run_id: str, export: str, chunk: int, attempt: int, at: str) -> None: ...

    def end_chunk(self, run_id: str, export: str, result: UnitResult, at: str) -> None:
        """Remember a chunk and all its parts, in one step (W3)."""
        ...

    def fail_chunk(self, run_id: str, export: str, chunk: int, code: str, at: str) -> None: ...

    def end_export(self, entry: ExportEntry) -> None:
        """Remember how an export ended; its plan and chunks stay as they are."""
        ...

    def publish(
        self, run_id: str, export: str, cursor: StoredCursor | None, superseded: Sequence[str], at: str
    ) -> None:
        """Follow a manifest that was published (W6), by this run or by one that died after its commit."""
        ...

    def sweep(self, run_id: str, export: str, removed: Sequence[str]) -> None:
        """Remember that nothing of a run is left that no manifest names; parts that were removed for that are forgotten."""
        ...

    def forget_files(self, export: str, keys: Sequence[str]) -> None:
        """Forget parts that are no longer at the destination."""
        ...

    # ---- what is asked

    def runs(self, *, limit: int) -> list[RunEntry]:
        """Return the newest runs, newest first."""
        ...

    def run(self, run_id: str) -> RunEntry | None: ...

    def exports(self, *, run_id: str | None = None, export: str | None = None) -> list[ExportEntry]:
        """Return the exports of a run in its order, or the runs of an export, newest first."""
        ...

    def chunks(self, run_id: str, export: str) -> list[ChunkEntry]:
        """Return the chunks that were begun, by number."""
        ...

    def files(self, export: str) -> list[FileEntry]:
        """Return the parts that are remembered, oldest first."""
        ...

    def cursor(self, export: str) -> CursorEntry | None:
        """Return the published set as it was seen last."""
        ...
