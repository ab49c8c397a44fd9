"""What is taken out of a command before it is shown.

Owns how the rules of this package apply to arguments and environments.  Must not know commands, nor who shows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from procflow.redaction.matching import Needle, found
from procflow.redaction.places import SECRET_WORDS, Place, SecretPlaces
from procflow.redaction.spans import Span, merged, replaced

_NAMELESS: frozenset[str] = frozenset()


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
        return self._places.is_secret_name(name)

    def clean_text(self, text: str) -> str:
        """Return ``text`` without the secrets that can be found inside of it; linear in its length."""
        return self._without(text, self._places.in_text(text))

    def clean_values(self, text: str) -> str:
        """Return ``text`` without the values that are known."""
        return self._without(text, ())

    def clean_variable(self, name: str, text: str) -> str:
        """Return what may be shown as the value of the environment variable ``name``."""
        return self.mark if self.is_secret_name(name) else self.clean_text(text)

    def clean_arguments(self, arguments: Iterable[str]) -> list[str]:
        """Return what may be shown as arguments; an option with a secret name hides the argument after it."""
        places = self._places
        cleaned: list[str] = []
        is_value = False
        for argument in arguments:
            cleaned.append(self.mark if is_value else self._without(argument, places.in_argument(argument)))
            is_value = not is_value and places.hides_next(argument)
        return cleaned

    @property
    def _places(self) -> SecretPlaces:
        return SecretPlaces(self.words)

    def _without(self, text: str, places: Iterable[Place]) -> str:
        spans = [Span(place.start, place.stop, _NAMELESS) for place in places]
        spans += found(text, (Needle(value, _NAMELESS) for value in self.values))
        return replaced(text, merged(spans), lambda _: self.mark)
