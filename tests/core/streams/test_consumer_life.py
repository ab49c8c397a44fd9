"""How consumers begin and end, whoever ends them."""

from __future__ import annotations

import asyncio
import gc

import anyio
import pytest
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow._streams.stream import OutputStream
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio


class Gate:
    """An async callback that hangs until it is opened, and tells when it was entered."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.open = anyio.Event()
        self.seen: list[object] = []
        self.was_cancelled = False

    async def __call__(self, item: object) -> None:
        self.entered.set()
        try:
            await self.open.wait()
        except BaseException:
            self.was_cancelled = True
            raise
        self.seen.append(item)


async def test_it_is_attached_at_the_call() -> None:
    """C-22, C-50: what is read after the call reaches the consumer although its task has not run yet (TPT 57)."""
    source = ScriptedSource(b"early")
    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.Collect.tail(99), name="mine")
        assert [subscriber.name for subscriber in stream.statistics().subscribers] == ["mine"]
        assert consumer.name == "mine"
        assert consumer.result is None
        source.send(b"late", b"")
        with anyio.fail_after(20):
            assert (await consumer.wait()).value.bytes == b"earlylate"


async def test_its_handle_need_not_be_kept() -> None:
    """C-50: the scope owns the task: dropping the handle loses nothing."""
    seen: list[str] = []
    source = ScriptedSource(b"a\n")
    async with pf.open_stream(source) as stream:
        stream.consume(pf.Inspect.lines(seen.append))
        gc.collect()
        source.send(b"b\n", b"")
        await stream.wait_ended()

    assert seen == ["a", "b"]


async def test_it_needs_an_owner() -> None:
    """C-50: a stream without a scope, or after it, takes no consumers."""
    with pytest.raises(pf.UsageError, match="owner"):
        OutputStream(ScriptedSource(b""), pf.StreamConfig(), name="bare").consume(pf.Collect.tail(1))

    async with pf.open_stream(ScriptedSource(b"")) as stream:
        pass
    with pytest.raises(pf.ClosedError, match="left"):
        stream.consume(pf.Collect.tail(1))
    assert not stream.statistics().subscribers


async def test_its_result_can_be_waited_for_by_many_and_again() -> None:
    """C-51: wait() is repeatable, for many tasks, and cancelling one changes nothing."""
    source = ScriptedSource()
    results: list[object] = []
    async with pf.open_stream(source) as stream, anyio.create_task_group() as tasks:
        consumer = stream.consume(pf.Collect.tail(9))

        async def wait() -> None:
            results.append(await consumer.wait())

        tasks.start_soon(wait)
        tasks.start_soon(wait)
        with anyio.move_on_after(0.01) as cancelled:
            await consumer.wait()
        assert cancelled.cancelled_caught
        assert not consumer.is_finished
        source.send(b"x", b"")
        with anyio.fail_after(20):
            result = await consumer.wait()
            assert await consumer.wait() is result is consumer.result

    assert results == [result, result]
    assert await consumer.wait() is result


@pytest.mark.parametrize(
    "kind",
    [pf.Collect.tail(9), pf.CollectLines.tail(9), pf.Inspect.lines(lambda _line: None)],
    ids=["bytes", "lines", "inspect"],
)
async def test_cancel_between_items_returns_what_was_collected(kind: pf.Collect) -> None:
    """C-51: a consumer that waits ends at once, keeps what it has, and lets the source go (TPT 46, 47, 145)."""
    source = ScriptedSource(b"one\n")
    async with pf.open_stream(source, pf.StreamConfig(replay=pf.Replay.none())) as stream:
        consumer = stream.consume(kind)
        await anyio.wait_all_tasks_blocked()

        result = await consumer.cancel(20)

        assert (result.ending, result.delivered_bytes) == (pf.ConsumerEnding.CANCELLED, 4)
        assert not stream.statistics().subscribers
        assert await consumer.cancel(0) is result
        consumer.abort()
        assert consumer.result is result
        after = stream.consume(pf.Collect.tail(9))
        source.send(b"two\n", b"")
        with anyio.fail_after(20):
            assert (await after.wait()).value.bytes == b"two\n"


async def test_cancel_waits_for_the_item_at_hand() -> None:
    """C-51: a callback that is under way finishes; lines that it was not given stay for the next subscriber."""
    gate = Gate()
    async with pf.open_stream(ScriptedSource(b"one\ntwo\n")) as stream, anyio.create_task_group() as tasks:
        consumer = stream.consume(pf.Inspect.lines(gate))
        await gate.entered.wait()
        results: list[pf.Consumed[int]] = []

        async def cancel() -> None:
            results.append(await consumer.cancel(20))

        tasks.start_soon(cancel)
        await anyio.wait_all_tasks_blocked()
        assert not consumer.is_finished
        gate.open.set()
        with anyio.fail_after(20):
            result = await consumer.wait()

            assert (gate.seen, result.ending, result.stop) == (["one"], pf.ConsumerEnding.CANCELLED, 4)
            assert await anext(stream.lines()) == "two"
    assert results == [result]


@pytest.mark.parametrize("unit", ["chunks", "lines", "batches"])
async def test_cancel_of_a_hanging_callback_aborts_and_says_so(unit: str) -> None:
    """C-51: past the timeout the callback is cancelled, the cursor is free, and the result says aborted (TPT 49, 51, 53)."""
    gate = Gate()
    source = ScriptedSource(b"one\ntwo\n")
    async with pf.open_stream(source) as stream:
        consumer = stream.consume(getattr(pf.Inspect, unit)(gate))
        await gate.entered.wait()

        with anyio.fail_after(20):
            result = await consumer.cancel(0.01)

        assert (result.ending, result.value, gate.was_cancelled) == (pf.ConsumerEnding.ABORTED, 1, True)
        assert not stream.statistics().subscribers
        source.send(b"three\n", b"")
        after = stream.consume(pf.Collect.tail(99))
        with anyio.fail_after(20):
            assert (await after.wait()).value.bytes.endswith(b"three\n")


async def test_abort_ends_at_once() -> None:
    """C-51: abort() frees the cursor before it returns, and the result soon says aborted (TPT 50, 54)."""
    gate = Gate()
    async with pf.open_stream(ScriptedSource(b"one\n")) as stream:
        consumer = stream.consume(pf.Inspect.lines(gate))
        await gate.entered.wait()

        consumer.abort()
        consumer.abort()

        assert not stream.statistics().subscribers
        with anyio.fail_after(20):
            assert (await consumer.wait()).ending is pf.ConsumerEnding.ABORTED


async def test_abort_before_its_first_step() -> None:
    """C-51: a consumer whose task has not begun ends too, without having taken anything."""
    async with pf.open_stream(ScriptedSource(b"one\n")) as stream:
        consumer = stream.consume(pf.Collect.tail(9))
        consumer.abort()

        assert consumer.result is not None
        assert consumer.result.ending is pf.ConsumerEnding.ABORTED
        assert (await consumer.wait()).delivered_bytes == 0


async def test_cancel_before_its_first_step() -> None:
    """C-51: a cancel that comes before the first step takes nothing from the stream."""
    async with pf.open_stream(ScriptedSource(b"one\n")) as stream:
        result = await stream.consume(pf.Collect.tail(9)).cancel()

        assert (result.ending, result.stop) == (pf.ConsumerEnding.CANCELLED, 0)


async def test_a_callback_that_aborts_its_own_consumer() -> None:
    """C-51: abort() from inside a callback ends the consumer after that item."""
    seen: list[str] = []

    def callback(line: str) -> None:
        seen.append(line)
        consumer.abort()

    async with pf.open_stream(ScriptedSource(b"1\n2\n3\n", b"")) as stream:
        consumer = stream.consume(pf.Inspect.lines(callback))
        with anyio.fail_after(20):
            result = await consumer.wait()

        assert (seen, result.ending, result.stop) == (["1"], pf.ConsumerEnding.ABORTED, 2)
        assert [line async for line in stream.lines()] == ["2", "3"]


async def test_a_callback_cannot_wait_for_its_own_consumer() -> None:
    """C-51: that would never end, and is refused."""

    async def callback(_line: str) -> None:
        await consumer.wait()

    async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
        consumer = stream.consume(pf.Inspect.lines(callback))
        with anyio.fail_after(20), pytest.raises(pf.ConsumerError) as caught:
            await consumer.wait()

    assert isinstance(caught.value.__cause__, pf.UsageError)


async def test_cancelling_the_waiter_does_not_end_the_consumer() -> None:
    """C-51: a wait that is cancelled leaves the consumer alone: cancel() and abort() are there for that (TPT 48, 52)."""
    gate = Gate()
    async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
        consumer = stream.consume(pf.Inspect.lines(gate))
        with anyio.move_on_after(0.01):
            await consumer.wait()
        gate.open.set()
        with anyio.fail_after(20):
            assert (await consumer.wait()).ending is pf.ConsumerEnding.EOF


# --- failures -------------------------------------------------------------------------------------------------------


def explode(_item: object) -> None:
    raise ValueError("secret 42")


async def test_a_callback_that_raises_fails_that_consumer_only() -> None:
    """C-51: the reader and every other consumer go on; wait() raises each time anew, with what was collected."""
    source = ScriptedSource(b"1\n2\n")
    async with pf.open_stream(source) as stream:
        bad = stream.consume(pf.Inspect.lines(explode), name="bad")
        good = stream.consume(pf.Collect.tail(9))
        errors = []
        for _ in range(2):
            with anyio.fail_after(20), pytest.raises(pf.ConsumerError) as caught:
                await bad.wait()
            errors.append(caught.value)
        with pytest.raises(pf.ConsumerError):
            await bad.cancel(1)
        source.send(b"3\n", b"")
        with anyio.fail_after(20):
            assert (await good.wait()).value.bytes == b"1\n2\n3\n"

    assert errors[0] is not errors[1]
    assert isinstance(errors[0].__cause__, ValueError)
    assert "secret" not in str(errors[0])
    assert (errors[0].consumer_name, errors[0].result.stop) == ("bad", 2)
    assert bad.result is not None
    assert bad.result.ending is pf.ConsumerEnding.FAILED


async def test_an_error_that_nobody_saw_is_raised_at_the_end_of_the_scope() -> None:
    """C-51: leaving the block raises it as itself; further ones are notes on it."""
    with pytest.raises(pf.ConsumerError) as caught:
        async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
            stream.consume(pf.Inspect.lines(explode), name="first")
            stream.consume(pf.Inspect.lines(explode), name="second")
            await anyio.wait_all_tasks_blocked()

    others = {"first", "second"} - {caught.value.consumer_name}  # trio decides who fails first
    assert isinstance(caught.value.__cause__, ValueError)
    assert others.pop() in caught.value.__notes__[0]


async def test_failures_that_nobody_sees_do_not_pile_up() -> None:
    """C-51: a scope keeps the first of many failures, and the number of the others."""
    with pytest.raises(pf.ConsumerError) as caught:
        async with pf.open_stream(ScriptedSource(b"1\n", b""), pf.StreamConfig(replay=pf.Replay.all())) as stream:
            for _ in range(100):
                stream.consume(pf.Inspect.lines(explode), start="start")
            await stream.wait_ended()

    assert caught.value.__notes__[0] == "84 more consumers failed"
    assert len(caught.value.__notes__) == 16


async def test_an_unseen_error_is_a_note_on_what_propagates() -> None:
    """C-51, C-67: nothing of ours replaces the exception of the body."""
    with pytest.raises(KeyError) as caught:
        async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
            stream.consume(pf.Inspect.lines(explode), name="bad")
            await stream.wait_ended()
            raise KeyError("mine")

    assert "bad" in caught.value.__notes__[0]
    assert "ValueError: secret 42" in caught.value.__notes__[0]


async def test_an_error_that_was_seen_is_not_raised_again() -> None:
    """C-51: who has waited knows."""
    async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
        consumer = stream.consume(pf.Inspect.lines(explode))
        with pytest.raises(pf.ConsumerError):
            await consumer.wait()


# --- the end of the scope -------------------------------------------------------------------------------------------


async def test_leaving_gives_consumers_time_to_take_what_is_held() -> None:
    """C-51: what an ended stream still holds is taken before the block is left."""
    seen: list[str] = []

    async def slowly(line: str) -> None:
        for _ in range(3):
            await checkpoint()
        seen.append(line)

    async with pf.open_stream(ScriptedSource(b"1\n2\n3\n" * 100, b"")) as stream:
        consumer = stream.consume(pf.Inspect.lines(slowly))
        await stream.wait_ended()

    assert len(seen) == 300
    assert consumer.result is not None
    assert consumer.result.ending is pf.ConsumerEnding.EOF


async def test_a_stream_closed_by_its_scope_ends_consumers_without_an_error() -> None:
    """C-21, C-51: closed by us is its own ending, told apart from EOF, and no failure (TPT 58, 5.2.8)."""
    async with pf.open_stream(ScriptedSource(b"1\n2")) as stream:
        collected = stream.consume(pf.Collect.tail(9))
        found = stream.consume(pf.WaitFor("none"))
        await anyio.wait_all_tasks_blocked()

    assert collected.result is not None
    assert found.result is not None
    assert (collected.result.ending, collected.result.value.bytes) == (pf.ConsumerEnding.CLOSED, b"1\n2")
    assert not collected.result.value.is_complete
    assert found.result.ending is pf.ConsumerEnding.CLOSED


async def test_a_consumer_that_does_not_finish_is_cut_and_that_is_an_error() -> None:
    """C-51: after finish_s it is cancelled, and the block says who was cut and where."""
    gate = Gate()
    with anyio.fail_after(20), pytest.raises(pf.ConsumerError, match="cut at offset 2") as caught:
        async with pf.open_stream(ScriptedSource(b"1\n2\n", b"")) as stream:
            consumer = stream.consume(pf.Inspect.lines(gate), finish_s=0.05, name="hanging")
            quick = stream.consume(pf.Collect.tail(9), finish_s=60)
            await gate.entered.wait()

    assert gate.was_cancelled
    assert (caught.value.result.ending, caught.value.consumer_name) == (pf.ConsumerEnding.CUT, "hanging")
    assert caught.value.__cause__ is None
    assert consumer.result is caught.value.result
    assert quick.result is not None
    assert quick.result.ending is pf.ConsumerEnding.EOF


async def test_finish_of_zero_cuts_at_once_what_is_not_done() -> None:
    """C-51: finish_s=0 waits for nobody."""
    gate = Gate()
    with anyio.fail_after(20), pytest.raises(pf.ConsumerError):
        async with pf.open_stream(ScriptedSource(b"1\n")) as stream:
            stream.consume(pf.Inspect.lines(gate), finish_s=0)
            await gate.entered.wait()


async def test_a_cancelled_scope_lets_consumers_finish_within_their_time() -> None:
    """C-51: a cancellation costs no log its end; who does not finish is cut all the same."""
    seen: list[str] = []
    gate = Gate()
    with anyio.CancelScope() as scope:
        async with pf.open_stream(ScriptedSource(b"1\n2\n")) as stream:
            taking = stream.consume(pf.Inspect.lines(seen.append))
            hanging = stream.consume(pf.Inspect.lines(gate), finish_s=0.05)
            await gate.entered.wait()
            scope.cancel()
            await checkpoint()

    assert seen == ["1", "2"]
    assert taking.result is not None
    assert taking.result.ending is pf.ConsumerEnding.CLOSED
    assert hanging.result is not None
    assert hanging.result.ending is pf.ConsumerEnding.CUT


async def test_cancelling_wait_cancel_and_leaving_at_every_step() -> None:
    """C-51: wherever a cancellation falls, the consumer ends once, nothing hangs, and the accounts add up."""
    for step in range(1, 40):
        source = ScriptedSource(b"1\n2\n3\n", b"4\n")
        with anyio.fail_after(20):
            scope = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:

                async def cancel_later(scope: anyio.CancelScope = scope, step: int = step) -> None:
                    for _ in range(step):
                        await checkpoint()
                    scope.cancel()

                async def callback(_line: str) -> None:
                    await checkpoint()

                tasks.start_soon(cancel_later)
                with scope:
                    async with pf.open_stream(source) as stream:
                        consumer = stream.consume(pf.Inspect.lines(callback))
                        await checkpoint()
                        await consumer.cancel(1)
                        await consumer.wait()
                tasks.cancel_scope.cancel()
        if "consumer" in locals():
            assert consumer.result is not None
            assert consumer.result.ending in (pf.ConsumerEnding.CANCELLED, pf.ConsumerEnding.CLOSED)
            assert consumer.result.stop == 2 * consumer.result.value
            del consumer


async def test_a_thousand_short_consumers_leave_nothing() -> None:
    """C-50: consumers that have ended cost their scope nothing."""
    async with pf.open_stream(ScriptedSource(b"1\n")) as stream:
        for _ in range(1000):
            await stream.consume(pf.Collect.tail(1)).cancel()
        crew = stream.crew
        assert repr(crew) == "<Crew of 0 running, 0 failed>"
        assert not stream.statistics().subscribers


async def test_errors_can_be_pickled() -> None:
    """C-51: a consumer's error crosses processes with its result."""
    import pickle

    with pytest.raises(pf.ConsumerError) as caught:
        async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
            stream.consume(pf.Inspect.lines(explode))
            await stream.wait_ended()

    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.result.stop) == (str(caught.value), 2)


async def test_a_handle_tells_its_state() -> None:
    """C-50: repr names consumer and state."""
    async with pf.open_stream(ScriptedSource(b"1\n", b"")) as stream:
        consumer = stream.consume(pf.Collect.tail(1), name="mine")
        assert repr(consumer) == "<Consumer 'mine' running at 0>"
        await consumer.wait()
        assert repr(consumer) == "<Consumer 'mine' eof at 2>"


@pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {}), id="asyncio")])
async def test_a_stray_cancellation_of_a_callback_is_a_failure(anyio_backend: object) -> None:
    """C-51: a callback that awaits what somebody else has cancelled fails its consumer only: nobody else is cancelled."""

    async def wait_for_cancelled(_line: str) -> None:
        stray = asyncio.get_running_loop().create_future()
        stray.cancel()
        await stray

    source = ScriptedSource(b"1\n")
    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.Inspect.lines(wait_for_cancelled))
        other = stream.consume(pf.Collect.tail(9))
        with anyio.fail_after(20):
            with pytest.raises(pf.ConsumerError) as caught:
                await consumer.wait()
            assert caught.value.result.ending is pf.ConsumerEnding.FAILED
            source.send(b"2\n", b"")
            assert (await other.wait()).value.bytes == b"1\n2\n"
