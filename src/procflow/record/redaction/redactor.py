"""The one place that everything recorded passes through.

Owns the secrets that are known and the rules for those that are not, and applies both to texts, bytes, arguments, variables
and JSON.  Must not know events: a recorder decides which field is which.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final, TypeAlias

from procflow.record.redaction.markers import holds_marker, marker, markers_in
from procflow.record.redaction.matching import NeedleTable, found_between, found_in_text
from procflow.record.redaction.needles import stripped
from procflow.record.redaction.rules import RedactionRules
from procflow.record.redaction.stream import StreamRedactor
from procflow.redaction.places import Place, Rule
from procflow.redaction.secret import SEARCHED_BYTES, Secret
from procflow.redaction.spans import Span, merged, replaced, without

Json: TypeAlias = "str | int | float | bool | Mapping[str, Json] | Sequence[Json] | None"
AnySecret: TypeAlias = "Secret[str] | Secret[bytes]"
_Finder: TypeAlias = "Callable[[str, frozenset[int]], Iterable[Place]]"

_MASK: Final = "\0"
"""Stands for each character of a marker while the rules look: it is in no name, no word and no URL."""

_NO_NAMES: Final = frozenset[str]()
_NOTHING: Final = frozenset[int]()


class ShortSecretWarning(UserWarning):
    """A secret is too short to be searched inside of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionStatistics:
    """What a redactor has done.

    Attributes:
        secret_count: Secrets that are known now.
        needle_count: Forms of them that are searched for.
        replaced_count: Parts that were replaced so far, in streams too.
    """

    secret_count: int
    needle_count: int
    replaced_count: int


class Redactor:
    """Takes secrets out of whatever is recorded; ``<redacted:name[,name]>`` stands in their place.

    What comes out can go in again and stays as it is.  Safe for use by several threads; a stream belongs to one of them.
    """

    def __init__(self, secrets: Iterable[AnySecret] = (), *, rules: RedactionRules | None = None) -> None:
        """Know ``secrets`` and follow ``rules``, by default all that there are.

        Raises:
            ValueError: As ``add()``.
        """
        self.rules: Final = rules if rules is not None else RedactionRules()
        self._places: Final = self.rules.places
        self._secrets: dict[AnySecret, None] = {}
        self._replaced_count = 0
        self._lock = Lock()
        self._table = NeedleTable.of((), other_names=self.rules.names)
        self._add(secrets)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets, {self._replaced_count} parts replaced>"

    def add(self, secret: AnySecret) -> None:
        """Know ``secret`` from now on, also in streams that are open; what they released stays as it is.

        A name may have several values, as when a password is changed.  A secret of less than 8 bytes is replaced only where
        it is a whole argument, the value of an option or that of a variable; a ``ShortSecretWarning`` says so.

        Raises:
            ValueError: If the value holds a marker, which is never taken out.
        """
        self._add((secret,))

    def statistics(self) -> RedactionStatistics:
        """Return what was done so far."""
        return RedactionStatistics(
            secret_count=len(self._secrets),
            needle_count=len(self._table.in_bytes),
            replaced_count=self._replaced_count,
        )

    def leaves_alone(self, texts: Iterable[str]) -> bool:
        """Whether nothing is taken out of any of ``texts``, whatever they are; a no may be wrong, a yes never is.

        One look at all of them together costs a tenth of a look at each.
        """
        joined = "\0".join(texts)
        table = self._table
        if self.rules.patterns or not joined.isascii():
            return False
        for needle in table.in_text:  # every event comes by here; a generator takes twice the time
            if needle.text in joined:
                return False
        return not (any(short in joined for short in table.whole) or self._places.triggers(joined.lower()))

    def redact_text(self, text: str) -> str:
        """Return ``text``, such as a script, a message or a path, without secrets."""
        return self._clean(text, self._table, lambda masked, taken: self._places.in_text(masked, taken=taken))

    def redact_bytes(self, data: bytes) -> bytes:
        """Return ``data`` without known secrets; the rules are for texts."""
        table = self._table
        holes = markers_in(data, table.known)
        spans = merged(found_between(data, table.likely_in(data), holes))
        if not spans:
            return data
        self._count(len(spans))
        return replaced(data, spans, lambda names: marker(names).encode())

    def redact_argv(self, argv: Sequence[str]) -> list[str]:
        """Return the words of a command without secrets: as many words, in the same order.

        Bytes that are no UTF-8 may be there as ``os.fsdecode()`` gives them, and ``os.fsencode()`` gives them back.
        """
        table = self._table
        joined = "\0".join(argv)
        present = [needle for needle in table.in_text if needle.text in joined]
        table = replace(table, in_text=tuple(present))
        lowered = joined.lower()
        triggers = self._places.triggers(lowered)
        is_plain = joined.isascii() and not self.rules.patterns
        if is_plain and not (present or triggers or table.whole):
            return list(argv)
        cleaned: list[str] = []
        is_value = False
        for word in argv:
            if not is_value and is_plain and not _holds_any(word, table, triggers):
                cleaned.append(word)
                continue
            whole = table.whole.get(word, _NO_NAMES) | (_names_of(Rule.OPTION) if is_value else _NO_NAMES)
            cleaned.append(self._clean(word, table, self._in_argument, whole=whole, parts=_value_part(word, table)))
            is_value = not is_value and self._places.hides_next(word)
        return cleaned

    def redact_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return environment variables without secrets, also such whose name promises one.

        Where two names become one by that, the later value stays.
        """
        return {self.redact_text(name): self._clean_value(name, value) for name, value in variables.items()}

    def redact_json(self, value: Json) -> Json:
        """Return a JSON value without the secrets in its texts and keys, also where a key promises one.

        Raises:
            RecursionError: If it is nested deeper than an encoder of JSON would follow.
        """
        match value:
            case str():
                return self.redact_text(value)
            case Mapping():
                return {
                    self.redact_text(key): self._clean_value(key, item)
                    if isinstance(item, str)
                    else self.redact_json(item)
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.redact_json(item) for item in value]
            case _:
                return value

    def stream(self) -> StreamRedactor:
        """Return a redactor for one stream of bytes, which knows at every step what is known here."""
        return StreamRedactor(lambda: self._table, self._count)

    def _add(self, secrets: Iterable[AnySecret]) -> None:
        with self._lock:
            new = {secret: stripped(secret.reveal_bytes()) for secret in secrets if secret not in self._secrets}
            if not new:
                return
            for secret, value in new.items():
                if holds_marker(value):
                    raise ValueError(f"the secret {secret.name!r} holds a marker of what was taken out somewhere else")
            self._secrets.update(dict.fromkeys(new))
            self._table = NeedleTable.of(self._secrets, other_names=self.rules.names)
        for secret, value in new.items():
            if len(value) < SEARCHED_BYTES:
                warnings.warn(
                    f"the secret {secret.name!r} is too short to be searched inside of texts; it is replaced only where "
                    "it is a whole argument, the value of an option or the value of a variable",
                    ShortSecretWarning,
                    stacklevel=3,
                )

    def _count(self, replaced_count: int) -> None:
        with self._lock:
            self._replaced_count += replaced_count

    def _in_argument(self, masked: str, taken: frozenset[int]) -> Iterator[Place]:
        return self._places.in_argument(masked, taken=taken)

    def _clean_value(self, name: str, value: str) -> str:
        """Return ``value``, which is that of a variable or a key."""
        table = self._table
        whole = table.whole.get(value, _NO_NAMES)
        if self.rules.assignments and self._places.is_secret_name(name):
            whole |= _names_of(Rule.ASSIGNMENT)
        return self._clean(value, table, lambda masked, taken: self._places.in_text(masked, taken=taken), whole=whole)

    def _clean(
        self,
        text: str,
        table: NeedleTable,
        finder: _Finder,
        *,
        whole: frozenset[str] = _NO_NAMES,
        parts: Sequence[Span] = (),
    ) -> str:
        """Return ``text`` without known secrets, without what ``finder`` finds, without ``parts`` and, for ``whole``, without all.

        What a rule sees changes when something is taken out before it, so it is asked again until nothing is left to take:
        what comes out is what comes out again.  Every round turns some of the text into markers, so it ends.
        """
        while True:
            holes = markers_in(text, table.known)
            spans = [*found_in_text(text, table, holes), *parts]
            masked, taken = (
                (_masked(text, holes), frozenset(start for start, _ in holes)) if holes else (text, _NOTHING)
            )
            spans += [Span(start, stop, _names_of(rule)) for start, stop, rule in finder(masked, taken)]
            spans += self.rules.matches(masked)
            if whole:
                spans.append(Span(0, len(text), whole))
            left = merged(without(spans, holes))
            if not left:
                return text
            self._count(len(left))
            if left[0].start == 0 and left[0].stop == len(text):
                return marker(left[0].names)
            text = replaced(text, left, marker)
            parts = ()


def _names_of(rule: Rule) -> frozenset[str]:
    return frozenset((rule.value,))


def _holds_any(word: str, table: NeedleTable, triggers: Sequence[str]) -> bool:
    """Whether anything could be taken out of ``word``, an argument in ASCII: never a wrong no."""
    if triggers:
        lowered = word.lower()
        for trigger in triggers:
            if trigger in lowered:
                return True
    return any(needle.text in word for needle in table.in_text) or any(short in word for short in table.whole)


def _value_part(word: str, table: NeedleTable) -> list[Span]:
    """Return the value of an option or assignment if it is a short secret."""
    name, _, value = word.partition("=")
    names = table.whole.get(value) if value else None
    return [] if names is None else [Span(len(name) + 1, len(word), names)]


def _masked(text: str, holes: Sequence[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, stop in holes:
        pieces += (text[done:start], _MASK * (stop - start))
        done = stop
    return "".join((*pieces, text[done:]))
