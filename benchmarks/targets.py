"""What a benchmark is to show, and whether it did.

Owns targets and verdicts, as pure functions of the numbers.  Knows neither how numbers are measured nor where tables go.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Row = tuple[str, str]
"""A case and a variant."""
Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on one number of one row: alone, or against the same number of another row.

    Attributes:
        promise: What is promised, as the table says it.
        metric: Key of the number.
        of: The variant it is about.
        over: The variant it is divided by, round by round; ``None`` to take the number itself.
        case: The case of ``of``.
        over_case: The case of ``over``; the same if ``None``.
        at_least: The lower bound; give this or ``at_most``.
        at_most: The upper bound.
        is_difference: Subtract instead of dividing.
        unit: Of the number itself or of the difference.
    """

    promise: str
    metric: str
    of: str
    over: str | None = None
    case: str = ""
    over_case: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    is_difference: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.promise}: give one of at_least and at_most")
        if self.is_difference and self.over is None:
            raise ValueError(f"{self.promise}: a difference needs over=")

    @property
    def row(self) -> Row:
        """The row that is judged."""
        return self.case, self.of

    @property
    def peer(self) -> Row | None:
        """The row that it is measured against."""
        if self.over is None:
            return None
        return self.case if self.over_case is None else self.over_case, self.over

    def text(self, number: float) -> str:
        """Return a number of this target with its sign or unit."""
        if self.over is None:
            return f"{_digits(number)} {self.unit}".rstrip()
        if self.is_difference:
            return f"{number:+.2f} {self.unit}".rstrip()
        return f"{_digits(number)}×"

    @property
    def bound(self) -> str:
        """The bound, as the table says it."""
        return f"≥ {self.text(self.at_least)}" if self.at_least is not None else f"≤ {self.text(self.at_most or 0)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was measured for a target: the median of the rounds and their extremes; nothing if a row has no number."""

    target: Target
    measured: float | None
    lowest: float | None = None
    highest: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps the bound; ``None`` if nothing was measured."""
        if self.measured is None:
            return None
        if self.target.at_least is not None:
            return self.measured >= self.target.at_least
        assert self.target.at_most is not None
        return self.measured <= self.target.at_most


def judge(target: Target, rounds: Mapping[Row, Sequence[Numbers]]) -> Verdict:
    """Return the verdict on ``target``: the median over the rounds of the value, ratio or difference within each round."""
    own = rounds.get(target.row, ())
    if target.peer is None:
        found = [numbers[target.metric] for numbers in own if target.metric in numbers]
    else:
        # Rounds are numbered from the first, and a row that fails stays away: what has a partner was measured beside it.
        pairs = zip(own, rounds.get(target.peer, ()), strict=False)
        both = [
            (mine[target.metric], peer[target.metric]) for mine, peer in pairs if target.metric in mine.keys() & peer
        ]
        if target.is_difference:
            found = [mine - peer for mine, peer in both]
        else:
            found = [mine / peer for mine, peer in both if peer]
    if not found:
        return Verdict(target=target, measured=None)
    return Verdict(target=target, measured=statistics.median(found), lowest=min(found), highest=max(found))


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as a Markdown table, and how many targets are met."""
    rows = list(verdicts)
    lines = ["| target | bound | measured | lowest to highest round | met |", "|---|---|---|---|---|"]
    for verdict in rows:
        target = verdict.target
        if verdict.measured is None or verdict.lowest is None or verdict.highest is None:
            cells = ["not measured", "–", "–"]
        else:
            spread = f"{target.text(verdict.lowest)} to {target.text(verdict.highest)}"
            cells = [target.text(verdict.measured), spread, "yes" if verdict.is_met else "**no**"]
        lines.append("| " + " | ".join([target.promise, target.bound, *cells]) + " |")
    met = sum(verdict.is_met is True for verdict in rows)
    return "\n".join(lines) + f"\n\n{met} of {len(rows)} targets are met.\n"


def _digits(number: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
