"""``orphans``, ``scrub`` and ``prune``: what is done to records, and to what is left of their processes."""

from __future__ import annotations

import argparse

from procflow.record.cli.documents import listed_document
from procflow.record.cli.face import Face
from procflow.record.cli.listing import record_lines
from procflow.record.cli.runs import root_of
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.retention.choice import Retention
from procflow.record.retention.pruning import prune
from procflow.record.views.words import bytes_text, counted


def prune_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Remove the records of a directory that are beyond the bounds, the least recently used first."""
    retention = Retention(max_records=parsed.keep, max_age_s=parsed.max_age, max_bytes=parsed.max_bytes)
    if retention == Retention():
        raise CommandError(
            Status.USAGE, "no bound is given", "say what to keep: --keep N, --max-age AGE or --max-bytes SIZE"
        )
    root = root_of(parsed.root)
    try:
        done = prune(root, retention, dry_run=parsed.dry_run)
    except OSError as exc:
        raise CommandError(
            Status.UNREADABLE,
            f"the directory of runs {root} cannot be read: {exc.strerror}",
            "name the right one with --root",
        ) from exc
    if face.is_json:
        face.data(
            {
                "dry_run": parsed.dry_run, "removed": [listed_document(record) for record in done.removed],
                "kept": [listed_document(record) for record in done.kept], "unfinished": done.unfinished,
            }
        )  # fmt: skip
    else:
        if done.removed:
            face.lines(record_lines(done.removed, face, names={}))
        verb = "would be removed" if parsed.dry_run else "removed"
        freed = bytes_text(sum(record.size_bytes for record in done.removed))
        face.say(f"{counted(len(done.removed), 'record')} {verb}, {freed}")
        for record in done.kept:
            face.say(f"{record.path} had to go and stays: somebody holds it, or the system does not let us")
    return Status.REFUSED if done.kept else Status.DONE
