"""``export``: a run in the words of OpenTelemetry and OpenLineage."""

from __future__ import annotations

import argparse

from procflow.errors import PlatformError
from procflow.record.cli.face import Face
from procflow.record.cli.files import STANDARD_OUTPUT, write_file
from procflow.record.cli.sources import view_of_run
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.errors import SpansRefusedError, UnexportableError
from procflow.record.exports.lineage import DEFAULT_NAMESPACE, openlineage_json
from procflow.record.exports.otel import export_spans, otlp_exporter
from procflow.record.exports.otlp import DEFAULT_SERVICE, otlp_json
from procflow.record.fold.view import RunView


def export_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Write a run to the files that are named, or send its spans."""
    files = [name for name in (parsed.otlp, parsed.openlineage) if name is not None]
    if not files and parsed.send is None:
        raise CommandError(Status.USAGE, "nothing to do", "say where to: --otlp FILE, --openlineage FILE or --send URL")
    view, _ = view_of_run(parsed)
    try:
        if parsed.otlp is not None:
            service = parsed.service_name or DEFAULT_SERVICE
            write_file(parsed.otlp, otlp_json(view, service_name=service), face)
        if parsed.openlineage is not None:
            namespace = parsed.namespace or DEFAULT_NAMESPACE
            write_file(parsed.openlineage, openlineage_json(view, namespace=namespace), face)
        sent_count = _send(view, parsed) if parsed.send is not None else 0
    except UnexportableError as exc:
        raise CommandError(
            Status.UNREADABLE, str(exc), "only a run whose first event is known can be exported"
        ) from exc
    if face.is_json and STANDARD_OUTPUT not in files:
        face.data({"run_id": view.run.run_id, "files": files, "sent_spans": sent_count})
    elif parsed.send is not None:
        face.say(f"{sent_count} spans sent to {parsed.send}")
    return Status.DONE


def _send(view: RunView, parsed: argparse.Namespace) -> int:
    try:
        exporter = otlp_exporter(parsed.send)
        try:
            return export_spans(view, exporter, service_name=parsed.service_name)
        finally:
            exporter.shutdown()
    except PlatformError as exc:
        raise CommandError(
            Status.ENVIRONMENT, str(exc), "pip install 'procflow[otlp]', or write a file with --otlp for a collector"
        ) from exc
    except SpansRefusedError as exc:
        raise CommandError(
            Status.ENVIRONMENT,
            f"{parsed.send} did not take the spans: {exc}",
            "try again: the same spans have the same ids",
        ) from exc
