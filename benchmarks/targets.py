"""What a benchmark is to show, and whether it did.

Owns targets and verdicts, as pure functions of the numbers.  Knows neither how numbers are measured nor where tables go.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

Row = tuple[str, str]
"""A case and a variant."""
Variants = str | tuple[str, ...]
Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on one number of one row: alone, or against the same number of another row.

    Attributes:
        promise: What is promised, as the table says it.
        metric: Key of the number.
        of: The variant it is about, or several: the best of them in each round, as the bound sees it.
        over: The variant, or the best of several, that it is divided by, round by round; ``None`` to take the number itself.
        case: The case of ``of``.
        over_case: The case of ``over``; the same if ``None``.
        at_least: The lower bound; give this or ``at_most``.
        at_most: The upper bound.
        is_stated: There is no bound: the table only states the number.
        limit: A variant of the same case that no design can beat, because it keeps none of the promises, or the best of several; judged
            the same way (against itself, if the target is), it says whether the target can be reached on this machine.
        is_difference: Subtract instead of dividing.
        unit: Of the number itself or of the difference.
    """

    promise: str
    metric: str
    of: Variants
    over: Variants | None = None
    case: str = ""
    over_case: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    is_stated: bool = False
    limit: Variants | None = None
    is_difference: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if [self.at_least is not None, self.at_most is not None, self.is_stated].count(True) != 1:
            raise ValueError(f"{self.promise}: give one of at_least, at_most and is_stated")
        if self.is_difference and self.over is None:
            raise ValueError(f"{self.promise}: a difference needs over=")

    @property
    def own_rows(self) -> list[Row]:
        """The rows that are judged."""
        return _rows(self.case, self.of)

    @property
    def peer_rows(self) -> list[Row]:
        """The rows that they are measured against; none if the number itself is judged."""
        case = self.case if self.over_case is None else self.over_case
        return [] if self.over is None else _rows(case, self.over)

    @property
    def rows(self) -> set[Row]:
        """Every row that the verdict needs."""
        return {*self.own_rows, *self.peer_rows, *(_rows(self.case, self.limit) if self.limit is not None else ())}

    def best(self, numbers: Iterable[float]) -> float:
        """Return the one that comes nearest to the bound, or goes the furthest beyond it."""
        return max(numbers) if self.at_least is not None else min(numbers)

    def text(self, number: float) -> str:
        """Return a number of this target with its sign or unit."""
        if self.over is None:
            return f"{_digits(number)} {self.unit}".rstrip()
        if self.is_difference:
            return f"{number:+.2f} {self.unit}".rstrip()
        return f"{_digits(number)}×"

    def is_kept_by(self, number: float) -> bool:
        """Return whether a number is within the bound; any is, if there is none."""
        if self.is_stated:
            return True
        if self.at_least is not None:
            return number >= self.at_least
        assert self.at_most is not None
        return number <= self.at_most

    @property
    def bound(self) -> str:
        """The bound, as the table says it."""
        if self.is_stated:
            return "stated"
        return f"≥ {self.text(self.at_least)}" if self.at_least is not None else f"≤ {self.text(self.at_most or 0)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was measured for a target: the median of the rounds and their extremes; nothing if a row has no number."""

    target: Target
    measured: float | None
    lowest: float | None = None
    highest: float | None = None
    limit: float | None = None
    """What the target's limit reaches, if it has one."""

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps the bound; ``None`` if nothing was measured, or there is no bound."""
        return None if self.measured is None or self.target.is_stated else self.target.is_kept_by(self.measured)

    @property
    def is_within_reach(self) -> bool | None:
        """Whether the limit keeps the bound; ``None`` if there is no limit, or no number of it."""
        return None if self.limit is None else self.target.is_kept_by(self.limit)

    @property
    def word(self) -> str:
        """What the table says."""
        if self.target.is_stated:
            return "–"
        if self.is_met:
            return "yes"
        return "no, out of reach here" if self.is_within_reach is False else "**no**"


def judge(target: Target, rounds: Mapping[Row, Sequence[Numbers]]) -> Verdict:
    """Return the verdict on ``target``: the median over the rounds of the value, ratio or difference within each round."""
    found = _compare(target, rounds)
    if not found:
        return Verdict(target=target, measured=None)
    possible: list[float] = []
    if target.limit is not None:
        over = target.limit if target.over == target.of else target.over
        possible = _compare(replace(target, of=target.limit, over=over), rounds)
    return Verdict(
        target=target,
        measured=statistics.median(found),
        lowest=min(found),
        highest=max(found),
        limit=statistics.median(possible) if possible else None,
    )


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as a Markdown table, and how many targets are met."""
    rows = list(verdicts)
    lines = ["| target | bound | measured | lowest to highest round | limit here | met |", "|---|---|---|---|---|---|"]
    for verdict in rows:
        target = verdict.target
        if verdict.measured is None or verdict.lowest is None or verdict.highest is None:
            cells = ["not measured", "–", "–", "–"]
        else:
            spread = f"{target.text(verdict.lowest)} to {target.text(verdict.highest)}"
            limit = target.text(verdict.limit) if verdict.limit is not None else "–"
            cells = [target.text(verdict.measured), spread, limit, verdict.word]
        lines.append("| " + " | ".join([target.promise, target.bound, *cells]) + " |")
    bounded = sum(not verdict.target.is_stated for verdict in rows)
    met = sum(verdict.is_met is True for verdict in rows)
    beyond = sum(verdict.is_met is False and verdict.is_within_reach is False for verdict in rows)
    closing = f"{met} of {bounded} targets are met" + (f", {beyond} out of reach here" if beyond else "")
    return "\n".join(lines) + f"\n\n{closing}.\n"


def _compare(target: Target, rounds: Mapping[Row, Sequence[Numbers]]) -> list[float]:
    """Return, for each round that has them, the target's number alone or against its peer's."""
    own = _best_of_each_round(target, target.own_rows, rounds)
    if target.over is None:
        return [mine for mine in own if mine is not None]
    # Rounds are numbered from the first, and a row that fails stays away: what has a partner was measured beside it.
    pairs = zip(own, _best_of_each_round(target, target.peer_rows, rounds), strict=False)
    both = [(mine, peer) for mine, peer in pairs if mine is not None and peer is not None]
    if target.is_difference:
        return [mine - peer for mine, peer in both]
    return [mine / peer for mine, peer in both if peer]


def _best_of_each_round(
    target: Target, rows: Iterable[Row], rounds: Mapping[Row, Sequence[Numbers]]
) -> list[float | None]:
    """Return the best number of these rows in each round; ``None`` where no row has one."""
    by_round = itertools.zip_longest(*(rounds.get(row, ()) for row in rows), fillvalue={})
    found = ([numbers[target.metric] for numbers in group if target.metric in numbers] for group in by_round)
    return [target.best(numbers) if numbers else None for numbers in found]


def _rows(case: str, variants: Variants) -> list[Row]:
    return [(case, variant) for variant in ((variants,) if isinstance(variants, str) else variants)]


def _digits(number: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
