"""The benchmarks run, and what they say about targets follows from the numbers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.__main__ import NAMES, SUITES, chosen, load, narrowed
from benchmarks.crowd import sleepers
from benchmarks.delays import percentile
from benchmarks.loops import cancelled_after, loop_sleep, run_on
from benchmarks.runs import descendants
from benchmarks.sampling import sampled
from benchmarks.targets import Target, judge, verdict_table
from benchmarks.trial import WORDS
from benchmarks.watch import Watched

from .snippets import ROOT

QUICK_LIMIT_S = 110
NOT_IN_FORCE = " is not in force"
NOT_INSTALLED = " is not installed"
FASTER = Target(promise="faster", metric="rate", of="ours", over="peer", at_least=2)


@pytest.mark.parametrize("name", SUITES["streams"].names)
def test_a_benchmark_of_the_streams_runs(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=QUICK_LIMIT_S, check=False)

    assert done.returncode == 0, done.stderr
    assert " failed: " not in done.stderr
    assert done.stdout.count("\n| ") == 1 + len(load(name).rows)


@pytest.mark.parametrize("name", SUITES["endings"].names)
def test_a_benchmark_of_the_endings_runs(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=QUICK_LIMIT_S, check=False)

    # Not every machine allows every level of containment; whatever else fails is a mistake.
    failures = [line for line in done.stderr.splitlines() if " failed: " in line]
    assert all(NOT_IN_FORCE in failure for failure in failures), done.stderr
    assert done.returncode == bool(failures), done.stderr
    assert done.stdout.count("\n| ") == 1 + len(load(name).rows)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("export_postgres", "wide"),
        ("export_mariadb", "wide"),
        ("export_sqlite", "plain"),
        ("export_loop", "wide"),
        ("export_workers", "wide"),
    ],
)
def test_a_benchmark_of_the_export_runs(name: str, case: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--case", case]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=QUICK_LIMIT_S, check=False)

    # Nothing is installed for a test: peers run where an earlier run has left them.
    failures = [line for line in done.stderr.splitlines() if " failed: " in line]
    assert all(NOT_INSTALLED in line or "max_execution_time" in line for line in failures), done.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n| ") == 1 + len(narrowed(load(name), [case], []).rows)


@pytest.mark.parametrize(
    "name",
    [
        *["reader", "fanout", "lines", "memory_lines", "flood", "latency", "chatty", "stdin"],
        *["spawn", "burst", "resident", "exits", "idle", "stop", "escalation", "kill", "runs"],
    ],
)
def test_the_process_of_a_peer_imports_nothing_of_ours(name: str) -> None:
    """A large import makes asyncio's reads three times cheaper: see benchmarks/trial.py."""
    program = f"import sys, benchmarks.{name}; print(set({WORDS}) & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", NAMES)
def test_targets_name_rows_and_columns_that_exist(name: str) -> None:
    assert load(name).rows  # a benchmark with another target does not load


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    rounds = {
        ("", "ours"): [{"rate": 10.0}, {"rate": 9.0}, {"rate": 40.0}],
        ("", "peer"): [{"rate": 10.0}, {"rate": 3.0}, {"rate": 20.0}],
    }

    verdict = judge(FASTER, rounds)

    assert (verdict.lowest, verdict.measured, verdict.highest) == (1, 2, 3)
    assert verdict.is_met


def test_a_difference_is_bounded_in_its_unit() -> None:
    target = Target(
        promise="late", metric="ms", of="ours", over="peer", case="many", over_case="one", at_most=2,
        is_difference=True, unit="ms",
    )  # fmt: skip

    verdict = judge(target, {("many", "ours"): [{"ms": 3.5}], ("one", "peer"): [{"ms": 1.0}]})

    assert verdict.measured == 2.5
    assert verdict.is_met is False
    assert "| late | ≤ +2.00 ms | +2.50 ms | +2.50 ms to +2.50 ms | – | **no** |" in verdict_table([verdict])


def test_a_limit_that_misses_the_bound_puts_the_target_out_of_reach() -> None:
    target = Target(promise="faster", metric="rate", of="ours", over="peer", limit="kernel", at_least=2)
    rounds = {("", "ours"): [{"rate": 15.0}], ("", "peer"): [{"rate": 10.0}]}

    slow = judge(target, {**rounds, ("", "kernel"): [{"rate": 19.0}]})
    fast = judge(target, {**rounds, ("", "kernel"): [{"rate": 30.0}]})

    assert (slow.is_within_reach, slow.word) == (False, "no, out of reach here")
    assert (fast.is_within_reach, fast.word) == (True, "**no**")
    assert "0 of 2 targets are met, 1 out of reach here." in verdict_table([slow, fast])


def test_the_limit_of_a_row_against_itself_is_against_itself() -> None:
    target = Target(
        promise="many", metric="cpu", of="ours", over="ours", case="64", over_case="1", limit="bare", at_most=2
    )
    rounds = {
        ("64", "ours"): [{"cpu": 9.0}], ("1", "ours"): [{"cpu": 3.0}],
        ("64", "bare"): [{"cpu": 5.0}], ("1", "bare"): [{"cpu": 1.0}],
    }  # fmt: skip

    verdict = judge(target, rounds)

    assert (verdict.measured, verdict.limit) == (3, 5)


def test_of_several_rows_the_best_of_each_round_is_judged() -> None:
    target = Target(promise="best", metric="s", of=("one", "two"), over=("slow", "gone", "odd"), at_most=1)
    rounds = {
        ("", "one"): [{"s": 4.0}, {"s": 9.0}], ("", "two"): [{"s": 8.0}, {"s": 3.0}],
        ("", "slow"): [{"s": 8.0}, {"s": 12.0}], ("", "gone"): [], ("", "odd"): [{"s": 5.0}, {}],
    }  # fmt: skip

    verdict = judge(target, rounds)

    assert target.rows == set(rounds)
    assert (verdict.lowest, verdict.highest) == (3 / 12, 4 / 5)
    assert judge(replace(target, at_most=None, at_least=1), rounds).lowest == 9 / 12


def test_a_benchmark_is_narrowed_to_the_rows_that_are_asked_for() -> None:
    benchmark = load("export_postgres")

    narrow = narrowed(benchmark, ["wide"], ["rivet, full", "1 worker", "binary"])

    assert narrow.rows == [
        ("wide", variant)
        for variant in benchmark.variants
        if variant
        in ("rivet, full", "psql, binary to nothing", "procflow, 1 worker", "procflow, 1 worker, unix socket")
    ]
    assert {target.case for target in narrow.targets} == {"wide"}
    assert 0 < len(narrow.targets) < len(benchmark.targets)


def test_a_number_without_a_peer_is_judged_alone() -> None:
    target = Target(promise="small", metric="kib", of="ours", at_most=4, unit="KiB")

    verdict = judge(target, {("", "ours"): [{"kib": 3.0}, {"kib": 5.0}, {"kib": 4.0}]})

    assert verdict.measured == 4
    assert verdict.is_met


def test_a_row_that_failed_leaves_its_target_open() -> None:
    verdict = judge(FASTER, {("", "ours"): [{"rate": 10.0}], ("", "peer"): []})

    assert verdict.is_met is None
    assert "| faster | ≥ 2× | not measured | – | – | – |" in verdict_table([verdict])
    assert "0 of 1 targets are met." in verdict_table([verdict])


def test_a_number_without_a_bound_is_stated_and_not_counted() -> None:
    target = Target(promise="price", metric="us", of="ours", is_stated=True, unit="µs")

    verdict = judge(target, {("", "ours"): [{"us": 3.0}]})

    assert verdict.is_met is None
    assert "| price | stated | 3 µs | 3 µs to 3 µs | – | – |" in verdict_table([verdict])
    assert "0 of 0 targets are met." in verdict_table([verdict])


def test_sleepers_go_with_their_block() -> None:
    before = set(descendants())

    with sleepers(50):
        there = set(descendants()) - before

    assert len(there) == 51
    assert not there & set(descendants())


def test_whoever_is_watched_does_not_outlive_the_block() -> None:
    with subprocess.Popen(["sleep", "60"]) as ours, subprocess.Popen(["true"]) as short:
        with Watched([ours.pid, short.pid]) as watched:
            short.wait()
            alive = watched.count_alive(0)

        assert alive == 1
        assert ours.wait() == -signal.SIGKILL


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_task_is_cancelled_from_outside(backend: str) -> None:
    reached = []

    async def job() -> None:
        try:
            await loop_sleep(backend)(60)
        finally:
            reached.append("end")

    run_on(backend, None, cancelled_after, backend, 0.01, job)

    assert reached == ["end"]


def test_a_target_has_one_bound() -> None:
    with pytest.raises(ValueError, match="one of"):
        Target(promise="either", metric="rate", of="ours", at_least=1, at_most=2)


def test_a_suite_is_its_benchmarks() -> None:
    assert chosen(["streams"]) == list(SUITES["streams"].names)
    assert chosen(["kill", "endings", "kill"]) == list(SUITES["endings"].names)
    assert chosen(["export"]) == list(SUITES["export"].names)
    assert chosen([]) == list(NAMES)


def test_a_section_is_written_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "benchmarks.md"
    written.write_text("# Page\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nkept\n")
    monkeypatch.setattr(page, "PAGE", written)

    page.write_section("one", "One", "new")
    page.write_section("two", "Two", "more")

    assert written.read_text() == (
        "# Page\n\n<!-- begin one -->\n\nnew\n\n<!-- end one -->\n\nkept\n"
        "\n## Two\n\n<!-- begin two -->\n\nmore\n\n<!-- end two -->\n"
    )


def test_the_page_has_a_place_for_every_table() -> None:
    text = page.PAGE.read_text("utf-8")

    assert all(text.count(f"<!-- {mark} {name} -->") == 1 for name in NAMES for mark in ("begin", "end"))
    assert all(f"<!-- begin {suite} targets -->" in text for suite in SUITES)


def test_sampling_names_the_line_that_takes_the_time() -> None:
    def spin(until_s: float) -> None:
        while time.process_time() < until_s:
            pass

    with sampled() as samples:
        spin(time.process_time() + 0.5)

    assert samples.lines.most_common(1)[0][0].endswith(" spin")
    assert "test_benchmarks.py" in samples.report()


def test_percentiles_count_weights() -> None:
    assert percentile([(1.0, 1), (10.0, 8), (100.0, 1)], 0.5) == 10
    assert percentile([(1.0, 1), (10.0, 8), (100.0, 1)], 0.99) == 100
