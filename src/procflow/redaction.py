"""What is taken out of a command before it is shown.

Owns the rules by which secrets are found in arguments and environments.  Must not know commands, nor who shows them.

Nobody can see whether a text is a secret.  Three things are known: values that the caller names, names that promise a secret
(``--token``, ``DB_PASSWORD``, ``Authorization:``), and the place of a password in a URL.  When in doubt, more is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

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
_USER_IN_URL: Final = re.compile(r"(?:(?<=http://)|(?<=https://))[^/\s:@]+@")
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Redaction:
    """How secrets are found and what is shown in their place.

    Attributes:
        words: A variable, an option or a key whose name holds one of these has a secret value.  Upper and lower case are
            the same, and so are ``-``, ``_`` and neither (``accessKey``); a leading ``_`` means that the word begins there
            (``DB_PASS``, ``--pass``).
        values: Secrets that are known; taken out wherever they stand.
        mark: What is shown instead.
    """

    words: tuple[str, ...] = SECRET_WORDS
    values: tuple[str, ...] = ()
    mark: str = "<redacted>"

    def __post_init__(self) -> None:
        for name in ("words", "values"):
            texts = getattr(self, name)
            if isinstance(texts, str):
                raise TypeError(f"{name} must be a sequence of texts, not one text")
            object.__setattr__(self, name, tuple(texts))
            if not all(getattr(self, name)):
                raise ValueError(f"{name} must not hold an empty text")

    def __repr__(self) -> str:
        return f"<Redaction, {len(self.words)} words, {len(self.values)} values>"

    def is_secret_name(self, name: str) -> bool:
        """Whether what ``name`` names is a secret."""
        return bool(self.words) and _secret_names(self.words).search(name) is not None

    def clean_text(self, text: str) -> str:
        """Return ``text`` without the secrets that can be found inside of it; linear in its length."""
        text = self.clean_values(text)
        text = _SPACELESS.sub(lambda word: self._clean_url(word[0]), text)
        text = _USER_IN_URL.sub(lambda _: f"{self.mark}@", text)
        return self._clean_named(text)

    def clean_values(self, text: str) -> str:
        """Return ``text`` without the values that are known."""
        if not self.values:
            return text
        longest_first = sorted(self.values, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda _: self.mark, text)

    def clean_variable(self, name: str, text: str) -> str:
        """Return what may be shown as the value of the environment variable ``name``."""
        return self.mark if self.is_secret_name(name) else self.clean_text(text)

    def clean_arguments(self, arguments: Iterable[str]) -> list[str]:
        """Return what may be shown as arguments; an option with a secret name hides the argument after it."""
        cleaned: list[str] = []
        is_value = False
        for argument in arguments:
            cleaned.append(self.mark if is_value else self._clean_argument(argument))
            is_value = (
                not is_value and argument.startswith("-") and "=" not in argument and self._is_secret_option(argument)
            )
        return cleaned

    def _clean_argument(self, argument: str) -> str:
        # What begins as an assignment is one: whatever its value holds, blanks and quotes too.
        assigned = _ONE_ASSIGNMENT.match(argument)
        if assigned is not None and self.is_secret_name(assigned[1]):
            return self.clean_values(assigned[0]) + self.mark
        return self.clean_text(argument)

    def _is_secret_option(self, argument: str) -> bool:
        return " " not in argument and self.is_secret_name(argument)

    def _clean_url(self, word: str) -> str:
        # Up to the last ``@``: a password may hold one itself, and a slash, although it should not.
        end = word.rfind("@")
        before = _BEFORE_PASSWORD.search(word) if end >= 0 else None
        return word if before is None or end <= before.end() else word[: before.end()] + self.mark + word[end:]

    def _clean_named(self, text: str) -> str:
        kept: list[str] = []
        done = 0
        for name in _NAME.finditer(text):
            if name.start() < done or not self.is_secret_name(name[0]):
                continue
            value = _ASSIGNED.match(text, name.end())
            if value is None and name[0].startswith("-"):
                value = _NEXT.match(text, name.end())
            if value is not None:
                kept += (text[done : value.start(value.lastgroup or 0)], self.mark)
                done = value.end()
        return "".join((*kept, text[done:]))


@cache
def _secret_names(words: tuple[str, ...]) -> re.Pattern[str]:
    patterns: list[str] = []
    for word in words:
        parts = [re.escape(part) for part in re.split("[-_]", word)]
        begins = "" if parts[0] or len(parts) == 1 else r"(?<![^\W_])"  # at the beginning, or after a separator
        patterns.append(begins + "[-_]?".join(parts if not begins else parts[1:]))
    # `PWD` alone is the working directory.
    return re.compile(rf"(?!\APWD\Z)(?:{'|'.join(patterns)})", re.IGNORECASE)
