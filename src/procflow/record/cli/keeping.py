"""``orphans``, ``scrub`` and ``prune``: what is done to records, and to what is left of their processes."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import os
import sys
import warnings
from typing import Final, TextIO

from procflow.record.cli.documents import listed_document
from procflow.record.cli.face import Face
from procflow.record.cli.listing import record_lines
from procflow.record.cli.runs import find_run, root_of
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.cli.tables import Column, table_lines
from procflow.record.errors import ForeignRecordError
from procflow.record.redaction.redactor import ShortSecretWarning
from procflow.record.retention.choice import Retention
from procflow.record.retention.pruning import prune
from procflow.record.scrubbing.scrub import scrub
from procflow.record.survivors import orphans
from procflow.record.views.spans import job_label
from procflow.record.views.words import bytes_text, counted
from procflow.redaction import Secret


def orphans_command(parsed: argparse.Namespace, face: Face) -> Status:
    """List the processes of a crashed run that are still there; end none."""
    path = find_run(parsed.run, root_of(parsed.root))
    try:
        found = orphans(path)
    except ForeignRecordError as exc:
        raise CommandError(
            Status.REFUSED, str(exc), "ask on the machine where the run was, before it is booted again"
        ) from exc
    if face.is_json:
        face.data(
            {
                "path": os.fspath(path),
                "orphans": [
                    {"pid": one.pid, "pid_start": one.pid_start, **one.call._asdict(), "cmd": one.cmd} for one in found
                ],
            }
        )  # fmt: skip
    elif found:
        columns = [
            Column(head="PID", is_right=True),
            Column(head="JOB", least=8),
            Column(head="CALL", is_right=True),
            Column(head="COMMAND", least=8),
        ]
        rows = [(None, (str(one.pid), job_label(one.call.job), str(one.call.sh), one.cmd or "")) for one in found]
        face.lines(table_lines(columns, rows, width=face.width, paint=face.paint))
    else:
        face.say("no process of this run is left, as far as its record tells")
    return Status.DEFECTS if found else Status.DONE


def scrub_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Take a secret, which comes from standard input, out of a record that is over."""
    path = find_run(parsed.run, root_of(parsed.root))
    try:
        secret = Secret(secret_from(sys.stdin) if sys.stdin is not None else b"", name=parsed.name)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ShortSecretWarning)
            done = scrub(path, [secret])
    except ValueError as exc:
        raise CommandError(
            Status.USAGE, str(exc), "give the secret on standard input, and with --name a name that is none"
        ) from exc
    for warning in said:
        face.say(str(warning.message))
    if face.is_json:
        face.data({"path": os.fspath(path), **dataclasses.asdict(done)})
        return Status.DONE
    places = done.event_places + done.log_places
    face.lines(
        [
            f"{counted(places, 'place')} replaced in {counted(len(done.changed), 'file')}",
            *(f"  {face.cut(name, used=2)}" for name in done.changed),
        ]
    )
    if done.unsearched:
        face.say(f"not searched, as they are none of the record's: {', '.join(done.unsearched)}")
    if done.changed:
        face.say("a database that was made of this record still holds it: delete that, and ingest again")
    return Status.DONE


def secret_from(stream: TextIO) -> bytes:
    """Return the whole of ``stream`` without its last newline; a person at a terminal is asked, and nothing is shown."""
    if stream.isatty():
        return getpass.getpass("secret: ").encode("utf-8", "surrogateescape")
    data = stream.buffer.read()
    return data.removesuffix(b"\n").removesuffix(b"\r")


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
        for path in done.unfinished:
            face.say(f"{path} is left of a removal, and takes room until {_DELETED[parsed.dry_run]}")
    if done.kept:
        return Status.REFUSED
    return Status.DEFECTS if done.unfinished and not parsed.dry_run else Status.DONE


_DELETED: Final = {True: "prune deletes it", False: "it can be deleted: the next prune tries again"}
