"""Text and elements of XML, and of HTML that is written the same way.

Owns the escaping: foreign text gets into a picture or a page through here only.  Must not know what is drawn.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from procflow.record.views.words import printable

Markup: TypeAlias = str
"""Text in which everything foreign is escaped already."""


def text(value: str, *, columns: int | None = None) -> Markup:
    """Return ``value`` as it is to be read: escaped, without characters that XML forbids, cut to ``columns``.

    Line ends become dots, as all characters do that do not show.
    """
    return html.escape(printable(value, columns=columns))


def lines(values: Iterable[str], *, columns: int) -> Markup:
    """Return several lines of text, each cut to ``columns``."""
    return "\n".join(text(value, columns=columns) for value in values)


def element(name: str, *children: Markup, **attributes: object) -> Markup:
    """Return an element; ``class_`` and ``stroke_width`` are the attributes ``class`` and ``stroke-width``.

    An attribute that is ``None`` is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def _value(value: object) -> Markup:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else text(str(value))
