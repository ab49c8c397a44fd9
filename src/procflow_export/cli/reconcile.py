"""``reconcile``: whether published sets are what their sources hold."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from procflow_export.cli.checking import (
    Progress,
    as_data,
    failure_rows,
    finding_rows,
    status_of,
    stopped,
    title,
    watched,
)
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import Interrupts
from procflow_export.cli.run import loaded_config
from procflow_export.model.reconciling import Verdict
from procflow_export.pipeline.reconciling import Reconciliation, reconcile
from procflow_export.ui import words
from procflow_export.ui.clean import one_line


def reconcile_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Compare the published set of every export with its source and return the exit status: 0, or 3 where a chunk is wrong."""
    loaded = loaded_config(parsed, face)

    async def work(progress: Progress) -> tuple[Reconciliation, ...]:
        return await reconcile(
            loaded, exports=parsed.exports or None, environ=os.environ, run_id=parsed.run_id, watch=progress.watch
        )

    results = watched(face, interrupts, "reconcile", work)
    if results is None:
        return stopped(face, interrupts)
    status = status_of([result.exit_status for result in results])
    if status or not face.is_quiet:
        face.show(_rows(face, results))
    if face.is_json:
        exports = [as_data(result, result.exit_status) for result in results]
        face.data({"status": "failed" if status else "success", "exit_status": int(status), "exports": exports})
    return int(status)


def _rows(face: Face, results: Sequence[Reconciliation]) -> list[Text]:
    rows: list[Text] = []
    for result in results:
        verdicts = Counter(chunk.verdict for chunk in result.chunks)
        rows.append(title(face, result.export, result.exit_status, result.findings, verdict_text(verdicts)))
        rows += finding_rows(result.findings)
        rows += [Text.assemble("     ", ("! ", "bold yellow"), one_line(remark)) for remark in result.remarks]
        rows += failure_rows(result.failure)
    return rows


def verdict_text(verdicts: Counter[Verdict]) -> str:
    """Return how many chunks are what."""
    pieces = [f"{words.whole(verdicts[verdict])} {verdict.value}" for verdict in Verdict if verdicts[verdict]]
    return f"{words.plural(sum(verdicts.values()), 'chunk')}: {', '.join(pieces)}" if pieces else "nothing compared"
