"""Which secrets are found although nobody named them.

Owns what can be switched on and off for a record, and regular expressions of the user's own.  The rules themselves are those
of ``procflow.redaction.places``, which the description of a command follows, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from procflow.redaction.places import SECRET_WORDS, Rule, SecretPlaces
from procflow.redaction.secret import checked_name
from procflow.redaction.spans import Span

GROUP: Final = "secret"
"""The group of a user's expression that holds the secret; without it the whole match is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRules:
    """What is taken for a secret by the name or place where it stands.

    The rules apply to arguments, variables and texts of events.  Output of children is searched for known secrets only.

    Attributes:
        words: A name that holds one of these is telling: see ``procflow.Redaction.words``.
        options: Take out what follows an option with a telling name, as the next argument or after ``=``.
        assignments: Take out what follows a telling name and ``=``, and the value of a variable of such a name.
        headers: Take out what follows a telling name and ``:``, such as ``Authorization: ...``.
        urls: Take out the password, or the only word before the ``@``, of a URL.
        patterns: More, as regular expressions by name.  The group ``secret`` of a match is the secret, or all of it if the
            expression has no such group.  How long they take is the caller's concern.
    """

    words: tuple[str, ...] = SECRET_WORDS
    options: bool = True
    assignments: bool = True
    headers: bool = True
    urls: bool = True
    patterns: Mapping[str, str | re.Pattern[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words: object = self.words
        if isinstance(words, str):
            raise TypeError("words must be a sequence of texts, not one text")
        object.__setattr__(self, "words", tuple(self.words))
        if not all(self.words):
            raise ValueError("words must not hold an empty text")
        for name in self.patterns:
            checked_name(name, "a pattern")
        compiled = {name: re.compile(pattern) for name, pattern in self.patterns.items()}
        object.__setattr__(self, "patterns", MappingProxyType(compiled))

    @classmethod
    def none(cls) -> RedactionRules:
        """Return no rules at all: only known secrets are taken out."""
        return cls(options=False, assignments=False, headers=False, urls=False)

    @property
    def places(self) -> SecretPlaces:
        """The rules that are shared with the description of commands."""
        on = {
            Rule.OPTION: self.options,
            Rule.ASSIGNMENT: self.assignments,
            Rule.HEADER: self.headers,
            Rule.URL: self.urls,
        }
        return SecretPlaces(self.words, frozenset(rule for rule, is_on in on.items() if is_on))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules that are on, for the header of a record and for markers."""
        return (*sorted(rule.value for rule in self.places.rules), *sorted(self.patterns))

    def matches(self, text: str) -> Iterator[Span]:
        """Yield what the user's expressions find in ``text``."""
        for name, pattern in self.patterns.items():
            compiled = re.compile(pattern)
            group = GROUP if GROUP in compiled.groupindex else 0
            for match in compiled.finditer(text):
                start, stop = match.span(group)
                if start < stop:
                    yield Span(start, stop, frozenset((name,)))
