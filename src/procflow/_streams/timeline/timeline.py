"""Several streams as one timeline.

Owns attaching to the outputs of a process together.  Must not know processes, nor how the order of what was read is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, overload

from procflow._streams.lines.readers import LineFeed
from procflow._streams.stream import OutputStream
from procflow._streams.subscription import Subscription
from procflow._streams.timeline.journal import Journal
from procflow._streams.timeline.readers import TimelineLines, TimelineSubscription, Watch
from procflow.events import Gap, OutputName
from procflow.policies import Delivery, LineConfig, OnGap, Reliable


class Timeline:
    """The outputs of a process as one: ``child.output``.

    What comes from different outputs is in the order in which it was *read*, which is approximately the order in which it was written:
    outputs are pipes of their own, and what waits in two of them has no order that anybody could know.
    """

    __slots__ = ("_journal", "_names", "_streams")

    def __init__(self, streams: Mapping[OutputName, OutputStream]) -> None:
        """Keep the order of what these streams will read; make it before they read anything."""
        self._names = tuple(streams)
        self._streams = tuple(streams.values())
        self._journal = Journal()
        if len(self._streams) > 1:
            for source, stream in enumerate(self._streams):
                stream.report_reads(partial(self._journal.note, source))

    def __repr__(self) -> str:
        return f"<Timeline of {', '.join(self._names)}>"

    @property
    def sources(self) -> tuple[OutputName, ...]:
        """The outputs that take part: those that are streams."""
        return self._names

    def subscribe(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        start: Literal["unread", "start", "live"] = "unread",
        name: str | None = None,
    ) -> TimelineSubscription:
        """Return a new subscriber to every output, attached now.

        Args:
            delivery: What happens when the subscriber is slower than the process.  It holds for each output, with a buffer each.
            start: Where it begins in each output.
            name: What the ``statistics()`` of each output calls it.

        Raises:
            HistoryLostError: As ``OutputStream.subscribe()``, for any of them; then it is attached to none.
        """
        return TimelineSubscription(self._names, self._attach(delivery, start, name), self._journal)

    @overload
    def lines(
        self,
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Literal["unread", "start", "live"] = ...,
        name: str | None = ...,
    ) -> TimelineLines[str]: ...
    @overload
    def lines(
        self,
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"],
        start: Literal["unread", "start", "live"] = ...,
        name: str | None = ...,
    ) -> TimelineLines[str]: ...
    @overload
    def lines(
        self,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_gap: OnGap | None = ...,
        start: Literal["unread", "start", "live"] = ...,
        name: str | None = ...,
    ) -> TimelineLines[str | Gap]: ...
    def lines(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_gap: OnGap | None = None,
        start: Literal["unread", "start", "live"] = "unread",
        name: str | None = None,
    ) -> TimelineLines[str] | TimelineLines[str | Gap]:
        """Return an async iterator over the lines of every output, attached now.

        A line comes when it is complete, so one that is interrupted by lines of the other output comes after them.  Otherwise as
        ``OutputStream.lines()``.

        Raises:
            HistoryLostError: As ``subscribe()``.
        """
        if on_gap not in (None, "yield", "skip", "raise"):
            raise ValueError(f'on_gap must be "yield", "skip", "raise" or None, not {on_gap!r}')
        if on_gap is None:
            on_gap = "raise" if isinstance(delivery, Reliable) else "yield"
        subscriptions = self._attach(delivery, start, name)
        feeds = [LineFeed(subscription, config, on_gap) for subscription in subscriptions]
        return TimelineLines(self._names, feeds, Watch(subscriptions, self._journal))

    def _attach(
        self, delivery: Delivery, start: Literal["unread", "start", "live"], name: str | None
    ) -> list[Subscription]:
        if start not in ("unread", "start", "live"):  # an offset would mean something else in each output
            raise ValueError(f'the start in a timeline must be "unread", "start" or "live", not {start!r}')
        subscriptions: list[Subscription] = []
        try:
            subscriptions.extend(stream.subscribe(delivery, start=start, name=name) for stream in self._streams)
        except BaseException:
            for subscription in subscriptions:
                subscription.close()
            raise
        return subscriptions
