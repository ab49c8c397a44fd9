"""What is taken out of a command before it is shown.

Owns the rules by which secrets are found in arguments and environments.  Must not know commands, nor who shows them.

Nobody can see whether a text is a secret.  Three things are known: values that the caller names, names that promise a secret
(``--token``, ``DB_PASSWORD``, ``Authorization:``), and the place of a password in a URL.  When in doubt, more is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
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

_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/\s:@]*):[^\s@]+@")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Redaction:
    """How secrets are found and what is shown in their place.

    Attributes:
        words: A variable, an option or a key whose name holds one of these has a secret value.  Upper and lower case are
            the same, and so are ``-`` and ``_``; a leading ``_`` means that the word begins there (``DB_PASS``, ``--pass``).
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
        plain = name.lower().replace("-", "_")
        return any(word.lower().replace("-", "_") in plain for word in self.words)

    def clean_text(self, text: str) -> str:
        """Return ``text`` without the secrets that can be found inside of it."""
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, self.mark)
        text = _PASSWORD_IN_URL.sub(lambda match: f"{match[1]}:{self.mark}@", text)
        for pattern in self._patterns():
            text = pattern.sub(lambda match: f"{match[1]}{self.mark}", text)
        return text

    def clean_variable(self, name: str, text: str) -> str:
        """Return what may be shown as the value of the environment variable ``name``."""
        return self.mark if self.is_secret_name(name) else self.clean_text(text)

    def clean_arguments(self, arguments: Iterable[str]) -> list[str]:
        """Return what may be shown as arguments; an option with a secret name hides the argument after it."""
        cleaned: list[str] = []
        is_value = False
        for argument in arguments:
            cleaned.append(self.mark if is_value else self.clean_text(argument))
            is_value = (
                not is_value and argument.startswith("-") and "=" not in argument and self._is_secret_option(argument)
            )
        return cleaned

    def _is_secret_option(self, argument: str) -> bool:
        return " " not in argument and self.is_secret_name(argument)

    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        if not self.words:
            return ()
        words = "|".join(re.escape(word.replace("-", "_")).replace("_", "[-_]") for word in self.words)
        name = rf"[\w-]*(?:{words})[\w-]*"
        return (
            re.compile(
                rf"({name}[\"']?\s*=\s*)(?!{re.escape(self.mark)})(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)", re.IGNORECASE
            ),
            re.compile(rf"({name}[\"']?\s*:\s*)(?!{re.escape(self.mark)})[\"']?[^\n\"']+", re.IGNORECASE),
            re.compile(
                rf"((?<![\w-])-{name}\s+)(?!{re.escape(self.mark)})(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)", re.IGNORECASE
            ),
        )
