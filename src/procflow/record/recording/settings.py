"""What a recording is asked for.

Owns the checks, and the sinks and the redactor that follow.  Must not know runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from procflow.record.envelope import Event
from procflow.record.events import RedactionInfo, Trace
from procflow.record.logs.cap import DEFAULT_CAP_BYTES
from procflow.record.reading.files import EVENTS_FILE
from procflow.record.recording.described import ARGV_CHOICES, ArgvChoice
from procflow.record.redaction.redactor import AnySecret, Redactor
from procflow.record.redaction.rules import RedactionRules
from procflow.record.sinks.files import FOLDER_MODE, Durability, FileSink
from procflow.record.sinks.functions import FunctionSink
from procflow.record.sinks.pipes import WhenFull
from procflow.record.sinks.port import Sink
from procflow.record.sinks.targets import Target, parse_target
from procflow.redaction.secret import Secret

EventTarget: TypeAlias = "str | os.PathLike[str] | Callable[[Event], object]"
"""Where events go besides the record: a target as ``parse_target()`` reads it, a path, or a function that is called."""

UNNAMED: Final = "secret"
"""What markers call a secret that was given as a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """Everything about a recording that is not its name."""

    run_id: str | None = None
    record: str | os.PathLike[str] | None = None
    database: str | os.PathLike[str] | None = None
    events: tuple[EventTarget, ...] = ()
    secrets: tuple[AnySecret | str, ...] = field(default=(), repr=False)
    rules: RedactionRules = field(default_factory=RedactionRules)
    meta: Mapping[str, str] = field(default_factory=dict)
    argv: ArgvChoice = "redacted"
    env_values: tuple[str, ...] = ()
    logs: bool = True
    log_cap_bytes: int | None = DEFAULT_CAP_BYTES
    durability: Durability = "process"
    when_full: WhenFull = "drop"
    strict: bool = False
    trace: Trace | None = None
    propagate_trace: bool = False

    def __post_init__(self) -> None:
        if self.run_id is not None and str(UUID(self.run_id)) != self.run_id:
            raise ValueError(f"run_id is a UUID as {UUID(self.run_id)}, not {self.run_id!r}")
        if self.argv not in ARGV_CHOICES:
            raise ValueError(f"argv must be one of {', '.join(map(repr, ARGV_CHOICES))}, not {self.argv!r}")
        if self.database is not None and self.record is None:
            raise ValueError("a database is made of the record, so record= is needed too")
        if self.log_cap_bytes is not None and self.log_cap_bytes <= 0:
            raise ValueError(f"log_cap_bytes must be positive, not {self.log_cap_bytes}")
        if not all(isinstance(text, str) for pair in self.meta.items() for text in pair):
            raise TypeError("meta maps str to str")
        targets = tuple(target for target in self.events if not callable(target))
        for target in targets:
            parse_target(target)

    @property
    def writes_stdout(self) -> bool:
        """Whether events go to standard output."""
        return any(target.is_stdout for target in self._targets())

    def redactor(self) -> Redactor:
        """Return what takes secrets out of this recording."""
        secrets = [secret if isinstance(secret, Secret) else Secret(secret, name=UNNAMED) for secret in self.secrets]
        return Redactor(secrets, rules=self.rules)

    def redaction_info(self) -> RedactionInfo:
        """Return what the header says about redaction."""
        return RedactionInfo(enabled=True, rules=self.rules.names, argv=self.argv)

    def open_sinks(self, run_directory: str | None) -> list[Sink]:
        """Create the directory of the run, and open the record and everything else that takes events.

        Raises:
            OSError: If one of them cannot be opened; then none is open.
        """
        with ExitStack() as undo:
            sinks: list[Sink] = []
            if run_directory is not None:
                make_run_directory(run_directory)
                record = FileSink(os.path.join(run_directory, EVENTS_FILE), durability=self.durability)
                undo.callback(record.close)
                sinks.append(record)
                if self.database is not None:
                    from procflow.record.store.live import DatabaseSink  # SQLite is for those who want it

                    sinks.append(DatabaseSink(self.database, run_directory))
            for target in self.events:
                if callable(target):
                    sinks.append(FunctionSink(target))
                    continue
                sink = parse_target(target).open(durability=self.durability, when_full=self.when_full)
                if isinstance(sink, FileSink):
                    undo.callback(sink.close)
                if sink is not None:
                    sinks.append(sink)
            undo.pop_all()
        return sinks

    def _targets(self) -> list[Target]:
        return [parse_target(target) for target in self.events if not callable(target)]


def make_run_directory(path: str) -> None:
    """Create the directory of a run, for its owner only, and those above it as usual.

    Raises:
        FileExistsError: If it is there: a run is never recorded over another.
        OSError: If it cannot be created.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    os.mkdir(path, FOLDER_MODE)
    os.chmod(path, FOLDER_MODE)  # a directory that inherits a group's rights (setgid, ACL) would have more


def as_events(events: EventTarget | Iterable[EventTarget] | None) -> tuple[EventTarget, ...]:
    """Return ``events``, one or several or none, as a tuple."""
    if events is None:
        return ()
    if isinstance(events, (str, os.PathLike)) or callable(events):
        return (events,)
    return tuple(events)


def as_texts(texts: Collection[str], what: str) -> tuple[str, ...]:
    """Return ``texts`` as a tuple.

    Raises:
        TypeError: If it is one text, which would be taken for its characters.
    """
    if isinstance(texts, str):
        raise TypeError(f"{what} must be a collection of texts, not one text")
    return tuple(texts)
