"""Colours, patterns and signs of pictures and pages.

Owns how each look is shown.  Must not know where it is shown.

Blue for good and vermilion for bad, which those who see few colours can tell apart; and beside the colour always a pattern or a sign.
Each class stands with its light colour first, because not every program that draws SVG knows about dark ones.
"""

from __future__ import annotations

from typing import Final

from procflow.record.views.looks import Look
from procflow.record.views.markup import Markup, element

SIGNS: Final = {
    Look.FINE: "✓",
    Look.BAD: "✗",
    Look.STOPPED: "■",
    Look.OPEN: "▸",
    Look.LOST: "?",
    Look.SKIPPED: "–",
    Look.WAITING: "…",
}

_LIGHT: Final = {
    Look.FINE: ("#cfe3f5", "#2f6fa8"),
    Look.BAD: ("#fbd9cf", "#b1341a"),
    Look.STOPPED: ("#fbeabf", "#8a6100"),
    Look.OPEN: ("#d3efdf", "#1f7a4d"),
    Look.LOST: ("#f1e5f8", "#7a3aa0"),
    Look.SKIPPED: ("#eceff3", "#5b6675"),
    Look.WAITING: ("#eceff3", "#5b6675"),
}
"""Inside and edge."""

_DARK: Final = {
    Look.FINE: ("#1f4468", "#6fb1ea"),
    Look.BAD: ("#5a2417", "#ff9479"),
    Look.STOPPED: ("#4f3c0c", "#f0c04d"),
    Look.OPEN: ("#17452f", "#63d39b"),
    Look.LOST: ("#3d2550", "#cfa4ec"),
    Look.SKIPPED: ("#262d38", "#9aa5b4"),
    Look.WAITING: ("#262d38", "#9aa5b4"),
}

PAPER: Final = ("#ffffff", "#14181f")
"""Light and dark, as everything below."""
INK: Final = ("#1d2430", "#e6eaf0")
DIM: Final = ("#5b6675", "#9aa5b4")
LINE: Final = ("#dfe4ea", "#2c3440")
BAND: Final = ("#f5f7fa", "#1a2029")

FONT: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"

_PATTERNED: Final = (Look.BAD, Look.STOPPED, Look.LOST)


def _colours(shade: int) -> str:
    looks = (_LIGHT, _DARK)[shade]
    rules = [
        f".pf-paper{{fill:{PAPER[shade]}}}",
        f".pf-ink,.pf-title,.pf-label{{fill:{INK[shade]}}}",
        f".pf-dim{{fill:{DIM[shade]}}}",
        f".pf-grid{{stroke:{LINE[shade]}}}",
        f".pf-band{{fill:{BAND[shade]}}}",
    ]
    for look, (inside, edge) in looks.items():
        name = look.value
        if look not in _PATTERNED:
            rules.append(f".pf-{name}{{fill:{inside}}}")
        rules += [
            f".pf-{name},.pf-hatch-{name}{{stroke:{edge}}}",
            f".pf-inside-{name}{{fill:{inside}}}",
            f".pf-sliver-{name},.pf-word-{name}{{fill:{edge}}}",
            f".pf-on-{name}{{stroke:{inside}}}",
        ]
    rules.append(f".pf-open{{fill:none}}.pf-open-inside{{fill:{looks[Look.OPEN][0]}}}")
    return "".join(rules)


STYLE: Final = (
    f".pf text{{font:11px {FONT}}}.pf .pf-title{{font-size:15px;font-weight:700}}"
    ".pf .pf-tick{font-size:10px;text-anchor:middle}.pf .pf-aside{font-style:italic}.pf .pf-name{font-weight:600}"
    ".pf .pf-label{paint-order:stroke;stroke-width:3px;stroke-linejoin:round;font-size:10.5px}"
    ".pf-lost{stroke-dasharray:4 2}.pf-hatch-bad,.pf-hatch-stopped,.pf-hatch-lost{stroke-opacity:.45}"
    + "".join(f".pf-{look.value}{{fill:url(#pf-pattern-{look.value})}}" for look in _PATTERNED)
    + _colours(0)
    + f"@media (prefers-color-scheme:dark){{{_colours(1)}}}"
)
"""The style sheet of a picture; every class begins with ``pf``, so that a page may hold several pictures."""


def pattern_definitions() -> Markup:
    """Return the hatchings, one for each look that has one."""
    return element(
        "defs",
        _pattern(Look.BAD, "M-1 1L1 -1M0 6L6 0M5 7L7 5", 6),
        _pattern(Look.STOPPED, "M3 0V6", 6),
        _pattern(Look.LOST, "M0 0L7 7M7 0L0 7", 7),
    )


def _pattern(look: Look, path: str, size: int) -> Markup:
    return element(
        "pattern",
        element("rect", width=size, height=size, class_=f"pf-inside-{look.value}"),
        element("path", d=path, class_=f"pf-hatch-{look.value}"),
        id=f"pf-pattern-{look.value}", width=size, height=size, patternUnits="userSpaceOnUse",
    )  # fmt: skip
