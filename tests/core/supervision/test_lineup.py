"""The bookkeeping of one map: what may begin, and which result is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from procflow._supervision.lineup import Lineup


@given(
    max_running=st.integers(1, 5),
    max_waiting=st.integers(0, 5),
    order=st.sampled_from(["completed", "submitted"]),
    count=st.integers(0, 30),
    data=st.data(),
)
def test_every_result_is_taken_once_in_order_and_the_bounds_hold(
    max_running: int, max_waiting: int, order: str, count: int, data: st.DataObject
) -> None:
    """C-90: running and waiting commands stay within their bounds under any interleaving; nothing is lost or given twice."""
    lineup: Lineup[int] = Lineup(max_running=max_running, max_waiting=max_waiting, order=order)  # type: ignore[arg-type]
    running: list[int] = []
    finished: list[int] = []
    taken: list[int] = []
    begun = 0
    while len(taken) < count or not lineup.is_over:
        assert lineup.running == len(running) <= max_running
        assert lineup.running + lineup.waiting <= max_running + max_waiting
        choices = []
        if begun < count and lineup.has_room:
            choices.append("begin")
        if running:
            choices.append("finish")
        if finished:
            choices.append("take")
        if begun == count and not lineup.is_closed:
            choices.append("close")
        assert choices, "it is never stuck"
        match data.draw(st.sampled_from(choices)):
            case "begin":
                assert lineup.begin() == begun
                running.append(begun)
                begun += 1
            case "finish":
                number = running.pop(data.draw(st.integers(0, len(running) - 1)))
                assert lineup.finish(number, number)
                finished.append(number)
            case "close":
                lineup.close()
            case "take":
                result = lineup.take()
                if order == "completed":
                    assert result == finished.pop(0)
                elif result is None:
                    assert min(running) < min(finished)
                else:
                    finished.remove(result)
                if result is not None:
                    taken.append(result)

    assert sorted(taken) == list(range(count))
    assert order == "completed" or taken == sorted(taken)


@given(
    order=st.sampled_from(["completed", "submitted"]), finished=st.sets(st.integers(0, 7)), failing=st.integers(0, 7)
)
def test_a_failure_is_the_last_result(order: str, finished: set[int], failing: int) -> None:
    """C-90: what had finished is taken first, then the failure, and what still ran is never given."""
    lineup: Lineup[str] = Lineup(max_running=8, max_waiting=8, order=order)  # type: ignore[arg-type]
    for _ in range(8):
        lineup.begin()
    for number in finished - {failing}:
        lineup.finish(number, f"ok {number}")

    assert lineup.fail(failing, "failed")
    late = [lineup.finish(number, "late") for number in range(8)]

    taken = []
    while not lineup.is_over:
        taken.append(lineup.take())
    assert not any(late)
    assert not lineup.has_room
    assert taken == [*(f"ok {number}" for number in sorted(finished - {failing})), "failed"]
