"""``repair``: which published sets are to be made anew, and why.

Owns what is said before anything happens, and the one step that a repair needs beside a run: an export that adds to its set has to
forget its cursor first.  The repair itself is a run like any other, from one new snapshot, published like any other; there is no
second pipeline, and nothing of the old set is patched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import anyio
import msgspec

from procflow_export.checks.findings import CheckFinding, exit_status_of
from procflow_export.checks.validation import Validation, ValidationDepth
from procflow_export.config.structs import Config, LoadedConfig, Mode
from procflow_export.model.codes import Code, ExitStatus
from procflow_export.model.errors import ExportError, Failure, PlanError, Severity, failure_from
from procflow_export.model.manifest import Manifest
from procflow_export.model.reconciling import Verdict
from procflow_export.pipeline.checking import Watch, chosen_targets, validated
from procflow_export.pipeline.cursor_state import cursor_state, reset_cursor
from procflow_export.pipeline.prepare import published_set
from procflow_export.pipeline.reconciling import Reconciliation, reconciled
from procflow_export.planning.cursors import first_day
from procflow_export.planning.plan import Target
from procflow_export.sources import open_source
from procflow_export.state import StateStore


class RepairPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair of one export would do.

    Attributes:
        export: Name of the export.
        location: Where its set is.
        is_needed: Whether the set is not to be trusted.
        findings: Why, and what else was found.
        verdicts: How many chunks are what, compared with the source.
        part_count: Parts that would be replaced.
        row_count: Their rows.
        forgets_cursor: Whether the export adds to its set, and would begin anew.
        failure: Why it cannot be repaired, or not be checked; None if it can.
    """

    export: str
    location: str
    is_needed: bool
    findings: tuple[CheckFinding, ...] = ()
    verdicts: dict[str, int] = msgspec.field(default_factory=dict)
    part_count: int = 0
    row_count: int = 0
    forgets_cursor: bool = False
    failure: Failure | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """What the plan alone ends with: 3 if the set is not to be trusted, or what stands in the way."""
        return exit_status_of((), self.failure) or exit_status_of(self.findings)


async def plan_repairs(
    config: LoadedConfig | Config | str | Path,
    *,
    depth: ValidationDepth = ValidationDepth.FULL,
    exports: Sequence[str] | None = None,
    params: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    also_undecided: bool = False,
    watch: Watch = lambda _export, _size_bytes: None,
) -> tuple[RepairPlan, ...]:
    """Validate and reconcile each export, and return what a repair would do; changes nothing.

    Args:
        config: A file, the structs, or a configuration that was loaded before.
        depth: How deep to validate.
        exports: Names of exports; all by default.
        params: Values for ``${NAME}`` in a file.
        environ: Environment for references in the configuration; this process's by default.
        also_undecided: Whether an export is also made anew if it differs from its source and nothing says why.
        watch: Is told, in a worker thread, how far it is.

    Raises:
        ConfigError: If the configuration is wrong.
        MisuseError: If there is no such export.
    """
    environ = os.environ if environ is None else environ
    targets = await chosen_targets(config, exports=exports, params=params, environ=environ, run_id=None)
    return tuple([await _plan(target, depth, environ, watch, also_undecided=also_undecided) for target in targets])


async def _plan(
    target: Target, depth: ValidationDepth, environ: Mapping[str, str], watch: Watch, *, also_undecided: bool
) -> RepairPlan:
    threads = anyio.CapacityLimiter(1)
    validation = await validated(target, depth, threads, watch)
    reconciliation: Reconciliation | None = None
    if validation.failure is None and validation.run_id is not None:
        reconciliation = await reconciled(target, environ, watch)
    plan = _plan_of(target, validation, reconciliation, also_undecided=also_undecided)
    if not plan.is_needed or validation.run_id is None or plan.failure is not None:
        return plan
    try:
        manifest = await published_set(target, threads)
        if manifest is None:
            return plan
        if target.export.mode is Mode.TIME_WINDOW:
            async with open_source(target.source, environ=environ) as source:
                _require_reachable(target, manifest, plan, first_day(target.export, await source.now()))
    except ExportError as exc:
        return msgspec.structs.replace(plan, failure=failure_from(exc))
    forgets = manifest.cursor is not None and target.export.mode is not Mode.TIME_WINDOW
    return msgspec.structs.replace(plan, forgets_cursor=forgets)


def _plan_of(
    target: Target, validation: Validation, reconciliation: Reconciliation | None, *, also_undecided: bool
) -> RepairPlan:
    findings = validation.findings
    verdicts: dict[str, int] = {}
    failure = validation.failure
    if reconciliation is not None:
        findings = (*findings, *reconciliation.findings)
        failure = failure or reconciliation.failure
        for chunk in reconciliation.chunks:
            verdicts[chunk.verdict.value] = verdicts.get(chunk.verdict.value, 0) + 1
    is_needed = any(finding.severity is Severity.ERROR for finding in findings)
    is_needed |= also_undecided and Verdict.UNDECIDED.value in verdicts
    return RepairPlan(
        export=target.export.name,
        location=validation.location,
        is_needed=is_needed,
        findings=findings,
        verdicts=verdicts,
        part_count=validation.part_count,
        row_count=validation.row_count,
        # What cannot be compared is made anew all the same, if it is damaged.
        failure=failure if not is_needed or failure is validation.failure else None,
    )


def _require_reachable(target: Target, manifest: Manifest, plan: RepairPlan, first: date) -> None:
    """Refuse what a run cannot repair: a window exports its own days anew, and forgetting the others would lose them."""
    bad = {finding.key for finding in plan.findings if finding.severity is Severity.ERROR}
    days = sorted(
        part.scope for part in manifest.parts if part.key in bad and part.scope and _is_before(part.scope, first)
    )
    if days:
        error = PlanError(
            Code.REPAIR_NOT_POSSIBLE,
            f"the damaged day {days[0]} lies before the window of {target.export.name!r}, which begins at {first}",
        )
        error.add_note("a larger `days_window` reaches it, as long as the source still has its rows")
        raise error


def _is_before(scope: str, first: date) -> bool:
    try:
        return date.fromisoformat(scope) < first
    except ValueError:
        return False  # rows of no day, or of days to come: every run exports them anew


async def forget_cursors(
    config: LoadedConfig, names: Sequence[str], store: StateStore, environ: Mapping[str, str] | None = None
) -> None:
    """Let the next run of these exports begin anew; their sets are read until it publishes.

    Raises:
        ExportError: If a destination or the state failed, or a run works on an export.
    """
    environ = os.environ if environ is None else environ
    targets = await chosen_targets(config, exports=names, params=None, environ=environ, run_id=None)
    threads = anyio.CapacityLimiter(1)
    for target in targets:
        state = await cursor_state(target, environ, threads)
        if state.cursor is not None:
            await reset_cursor(state, store, threads)
