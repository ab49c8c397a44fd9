"""A value that shows itself as a mask.

Owns the type alone.  It stands below commands, so that a command can take it in its arguments and its environment and unwrap
it at the spawn.  Known hole: a program that means harm to itself can read the slot; the type is against accidents.
"""

from __future__ import annotations

import hmac
import re
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, final

SecretValue = TypeVar("SecretValue", str, bytes)

SEARCHED_BYTES: Final = 8
"""A shorter secret is not searched inside of texts: it would be found where it is none."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_name(name: str, what: str) -> str:
    """Return ``name`` if it may stand in a marker, where a comma and ``>`` have a meaning.

    Raises:
        ValueError: If it holds anything but letters, digits, ``.``, ``_`` and ``-``, or is empty or longer than 64.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"the name of {what} must be 1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'")
    return name


@final
class Secret(Generic[SecretValue]):
    """A secret: shown by its name only, and given away by ``reveal()`` only.

    ``repr``, ``str``, f-strings, ``%s``, logging and tracebacks show ``<redacted:name>``.  Pickling is refused, and so is
    whatever takes it for a text: joining, adding, its length, its characters.  A copy is the secret itself.  Two are equal if
    name and value are; that comparison takes as long for a near miss as for a far one.
    """

    __slots__ = ("_name", "_value")

    _name: str
    _value: SecretValue

    def __init__(self, value: SecretValue, *, name: str) -> None:
        """Wrap ``value``.

        Raises:
            TypeError: If ``value`` is neither a text nor bytes.
            ValueError: If it is empty or cannot be written as bytes, or if ``name`` cannot stand in a marker or holds it.
        """
        if not isinstance(value, str | bytes):
            raise TypeError(f"a secret must be str or bytes, not {type(value).__name__}")
        object.__setattr__(self, "_name", checked_name(name, "a secret"))
        object.__setattr__(self, "_value", value)
        # Checked here, with no cause: the error of the codec holds the value.
        try:
            stripped = self.reveal_bytes().rstrip(b"\r\n")
        except UnicodeEncodeError:
            stripped = b""
        if not stripped:
            raise ValueError(f"the secret {name!r} is empty or no text that could be written")
        if stripped == name.encode() or (len(stripped) >= SEARCHED_BYTES and stripped in name.encode()):
            raise ValueError("the name of a secret must not give its value away")

    @property
    def name(self) -> str:
        """What markers and messages call it."""
        return self._name

    def reveal(self) -> SecretValue:
        """Return the value."""
        return self._value

    def reveal_bytes(self) -> bytes:
        """Return the value as bytes: of a text its UTF-8, in which escaped bytes are themselves again."""
        value: str | bytes = self._value
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"<redacted:{self._name}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        is_same_kind = isinstance(self._value, bytes) == isinstance(other._value, bytes)
        is_same_value = hmac.compare_digest(self.reveal_bytes(), other.reveal_bytes())
        return is_same_kind and is_same_value and self._name == other._name

    def __hash__(self) -> int:
        return hash((Secret, self._name))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled; pass what reveal() returns, if it must be")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret does not give its state away")

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"a secret cannot be changed, not its {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a secret cannot be changed, not its {name}")
