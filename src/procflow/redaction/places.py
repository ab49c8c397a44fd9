"""Where a secret stands although nobody named it: after a telling name, or where a URL has a password.

Nobody can see whether a text is a secret.  Names that promise one (``--token``, ``DB_PASSWORD``, ``Authorization:``) and the
place of a password in a URL are known; when in doubt, more is taken out.  Owns these rules, for every user of them; finds
places and replaces nothing.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

SECRET_WORDS: Final = (
    "password",
    "passwd",
    "passphrase",
    "_pass",
    "_pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "credential",
    "authorization",
    "cookie",
)

_SPACELESS: Final = re.compile(r"\S+")
_BEFORE_PASSWORD: Final = re.compile(r"://[^/:@]*:")
_USER_IN_URL: Final = re.compile(r"(?:(?<=http://)|(?<=https://))[^/\s:@]+(?=@)")
"""Who puts one word before the ``@`` of a web address puts a token there."""

_QUOTED: Final = r"""(?:"(?:\\.|[^"\\])*"|'[^']*')"""

_WORD: Final = rf"""(?:{_QUOTED}|\\.|[^\s"'\\])+"""
"""A word of a shell, with its quotes."""

_UNCLOSED: Final = r"""["'][^\n]*"""
"""What follows a quote that nobody closes."""

_HEADER: Final = r"""[^\s"'](?:"(?:\\.|[^"\\\n])*"|[^\n"'])*"""
"""The value of a header: to the end of the line, or of the quotes around all of it."""

_NAME: Final = re.compile(r"(?<![\w-])[\w-]+")
_ASSIGNED: Final = re.compile(
    rf"""["']?\s*=\s*(?P<value>{_WORD}|{_UNCLOSED})|["']?\s*:\s*(?P<text>{_QUOTED}|{_UNCLOSED}|{_HEADER})"""
)
_NEXT: Final = re.compile(rf"\s+(?P<value>{_WORD}|{_UNCLOSED})")
_ONE_ASSIGNMENT: Final = re.compile(r"""([^\s=:"']+)\s*[=:]\s*(?=\S)""")


class Rule(enum.Enum):
    """Why a place is taken for one of a secret; the value is the word for it."""

    OPTION = "option"
    """After an option with a telling name: ``--token x``, ``--token=x``."""
    ASSIGNMENT = "assignment"
    """After a telling name and an equals sign, and the value of a variable of such a name."""
    HEADER = "header"
    """After a telling name and a colon: headers, keys of JSON and YAML."""
    URL = "url"
    """The password, or the only word before the ``@``, of a URL."""


class Place(NamedTuple):
    """Where a secret is taken to stand, from ``start`` to before ``stop``."""

    start: int
    stop: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class SecretPlaces:
    """The rules with their words, as far as they are switched on.

    Attributes:
        words: A name that holds one of these is telling.  Upper and lower case are the same, and so are ``-``, ``_`` and
            neither (``accessKey``); a leading ``_`` means that the word begins there (``DB_PASS``, ``--pass``).
        rules: The rules that apply.
    """

    words: tuple[str, ...] = SECRET_WORDS
    rules: frozenset[Rule] = frozenset(Rule)

    def is_secret_name(self, name: str) -> bool:
        """Whether what ``name`` names is a secret."""
        return self._may_hold_name(name) and _secret_names(self.words).search(name) is not None

    def triggers(self, lowered: str) -> list[str]:
        """Return texts of which a part of ``lowered``, an ASCII text in lower case, holds one if a rule applies in it."""
        found = [stem for stem in _stems(self.words) if stem in lowered] if self.rules != {Rule.URL} else []
        return [*found, "@"] if Rule.URL in self.rules and "@" in lowered else found

    def in_text(self, text: str, *, taken: frozenset[int] = frozenset()) -> Iterator[Place]:
        """Yield the places in ``text``; linear in its length.

        Args:
            text: What is searched.
            taken: Where parts begin that were taken out before; a value that begins there is none.
        """
        if "@" in text and Rule.URL in self.rules:
            yield from self._in_urls(text)
        if self._may_hold_name(text):
            yield from self._after_names(text, taken)

    def in_argument(self, argument: str, *, taken: frozenset[int] = frozenset()) -> Iterator[Place]:
        """Yield the places in one argument of a command."""
        # What begins as an assignment is one: whatever its value holds, blanks and quotes too.
        assigned = _ONE_ASSIGNMENT.match(argument) if self._may_hold_name(argument) else None
        if assigned is not None and self.is_secret_name(assigned[1]):
            rule = _rule_of(assigned[1], "=" if "=" in assigned[0] else ":")
            if rule in self.rules:
                if assigned.end() not in taken:
                    yield Place(assigned.end(), len(argument), rule)
                return
        yield from self.in_text(argument, taken=taken)

    def hides_next(self, argument: str) -> bool:
        """Whether the argument after ``argument`` is a secret."""
        return (
            Rule.OPTION in self.rules
            and argument.startswith("-")
            and "=" not in argument
            and " " not in argument
            and self.is_secret_name(argument)
        )

    def _may_hold_name(self, text: str) -> bool:
        # The regular expression ignores case in ways that no cheap search knows; outside of ASCII it is asked at once.
        if not text.isascii():
            return bool(self.words)
        lowered = text.lower()
        for stem in _stems(self.words):  # noqa: SIM110  # every argument comes by here; a generator takes twice the time
            if stem in lowered:
                return True
        return False

    @staticmethod
    def _in_urls(text: str) -> Iterator[Place]:
        for word in _SPACELESS.finditer(text):
            # Up to the last ``@``: a password may hold one itself, and a slash, although it should not.
            end = word[0].rfind("@")
            before = _BEFORE_PASSWORD.search(word[0]) if end >= 0 else None
            if before is not None and end > before.end():
                yield Place(word.start() + before.end(), word.start() + end, Rule.URL)
        for user in _USER_IN_URL.finditer(text):
            yield Place(user.start(), user.end(), Rule.URL)

    def _after_names(self, text: str, taken: frozenset[int]) -> Iterator[Place]:
        done = 0
        for name in _NAME.finditer(text):
            if name.start() < done or not self.is_secret_name(name[0]):
                continue
            value = _ASSIGNED.match(text, name.end())
            rule = _rule_of(name[0], "=" if value is None or value.lastgroup == "value" else ":")
            if value is None and rule is Rule.OPTION:
                value = _NEXT.match(text, name.end())
            if value is not None and rule in self.rules:
                start = value.start(value.lastgroup or 0)
                if start not in taken:
                    yield Place(start, value.end(), rule)
                done = value.end()


def _rule_of(name: str, sign: str) -> Rule:
    if sign == ":":
        return Rule.HEADER
    return Rule.OPTION if name.startswith("-") else Rule.ASSIGNMENT


@cache
def _stems(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts of which at least one is in the lower case of every telling name."""
    stems = {max(re.split("[-_]", word), key=len).lower() for word in words}
    return tuple(sorted(stem for stem in stems if not any(other in stem for other in stems - {stem})))


@cache
def _secret_names(words: tuple[str, ...]) -> re.Pattern[str]:
    patterns: list[str] = []
    for word in words:
        parts = [re.escape(part) for part in re.split("[-_]", word)]
        begins = "" if parts[0] or len(parts) == 1 else r"(?<![^\W_])"  # at the beginning, or after a separator
        patterns.append(begins + "[-_]?".join(parts if not begins else parts[1:]))
    # `PWD` alone is the working directory.
    return re.compile(rf"(?!\APWD\Z)(?:{'|'.join(patterns)})", re.IGNORECASE)
