"""What redaction and the log of a call cost, without any process."""

from __future__ import annotations

import random
import string
import tempfile
from collections.abc import Callable, Iterator

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.targets import Target
from procflow.record.logs.format import LogStream
from procflow.record.logs.writer import CallLog
from procflow.record.redaction import Redactor, Secret

SECRETS = 20
BLOCK = 64 * 1024
WORDS = string.ascii_lowercase + string.digits + " .:/-_=[]INFODEBUGWARN"
ARGV = [
    "/usr/bin/git", "-C", "/srv/repositories/project", "fetch", "--prune", "--depth=1", "origin",
    "+refs/heads/main:refs/remotes/origin/main", "--upload-pack", "/usr/bin/git-upload-pack",
]  # fmt: skip


def secrets(count: int) -> list[Secret[str]]:
    """Return secrets of 32 letters and digits: four forms each."""
    letters = random.Random(1)
    values = ["".join(letters.choices(string.ascii_letters + string.digits, k=32)) for _ in range(count)]
    return [Secret(value, name=f"secret-{number}") for number, value in enumerate(values)]


def redactor(count: int = SECRETS) -> Redactor:
    """Return one that knows ``count`` secrets."""
    return Redactor(secrets(count))


def blocks(params: Params) -> Iterator[bytes]:
    """Yield blocks of lines of 80 bytes, none beginning where a line does."""
    letters = random.Random(2)
    alphabet = WORDS if params["text"] == "words" else string.ascii_letters + string.digits + "+/ "
    lines = b"".join("".join(letters.choices(alphabet, k=79)).encode() + b"\n" for _ in range(12_800))
    for _ in range(params["mib"]):
        for at in range(0, len(lines), BLOCK):
            yield lines[at : at + BLOCK]


def over_blocks(make: Callable[[str], tuple[Callable[[bytes], object], Callable[[], object]]]) -> Trial:
    """Return the trial that gives every block to a step, and ends with another."""

    def measured(params: Params) -> Numbers:
        with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
            step, end = make(directory)
            total = 0
            with timed() as timing:
                for block in blocks(params):
                    step(block)
                    total += len(block)
                end()
        return {"mb_s": total / timing.wall_s / 1e6, "core_at_100_mb_s": timing.cpu_s / total * 1e8}

    return measured


def plain_search(_directory: str) -> tuple[Callable[[bytes], object], Callable[[], object]]:
    needles = [needle.text for needle in redactor()._table.in_bytes]

    def step(block: bytes) -> None:
        for needle in needles:
            block.find(needle)

    return step, lambda: None


def stream(_directory: str) -> tuple[Callable[[bytes], object], Callable[[], object]]:
    redacted = redactor().stream()
    return redacted.feed, redacted.finish


def log(secrets: int) -> Callable[[str], tuple[Callable[[bytes], object], Callable[[], object]]]:
    def make(directory: str) -> tuple[Callable[[bytes], object], Callable[[], object]]:
        written = CallLog(directory, "sh-0001.log", redactor=redactor(secrets) if secrets else None)
        return (
            lambda block: written.append(LogStream.STDOUT, block, at_ns=1, mono_ns=1),
            lambda: written.close(at_ns=1),
        )

    return make


def commands(argv: list[str]) -> Trial:
    def measured(params: Params) -> Numbers:
        made = redactor()
        with timed() as timing:
            for _ in range(params["commands"]):
                made.redact_argv(argv)
        return {"us_command": timing.cpu_s / params["commands"] * 1e6}

    return measured


BENCHMARK = Benchmark(
    title="Redaction and logs",
    about="Blocks of 64 KiB with lines of 80 bytes go through a redactor with 20 secrets in 80 forms, or into the log of a call (cap 64 MiB), "
    "or both; and a command of 10 words goes through the redactor, as it is and with an option whose value is taken out. "
    "The base line is the search alone: `bytes.find` for each of the 80 forms. In one case the lines are of small letters and some capitals, "
    "in the other of all that base64 has, so that no form can be ruled out by a letter that is missing. No process is started. "
    "Times of a command are CPU times.",
    variants={
        "bytes.find for each form": over_blocks(plain_search),
        "procflow stream, 20 secrets": over_blocks(stream),
        "procflow log": over_blocks(log(0)),
        "procflow log, 20 secrets": over_blocks(log(SECRETS)),
        "procflow command, 20 secrets": commands(ARGV),
        "procflow command, 20 secrets, one option taken out": commands([*ARGV, "--token", "x"]),
    },
    metrics=(
        Metric(key="mb_s", title="MB/s", format=".0f", has_ratio=True),
        Metric(key="core_at_100_mb_s", title="share of a core at 100 MB/s"),
        Metric(key="us_command", title="CPU µs/command", format=".1f"),
    ),
    cases={"words": {"text": "words"}, "every letter": {"text": "base64"}},
    applies=lambda case, variant: case == "words" or "command" not in variant,
    params={"mib": 128, "commands": 5000},
    quick={"mib": 4, "commands": 200},
    targets=(
        Target(promise="a log stream with 20 secrets", metric="mb_s", of="procflow stream, 20 secrets", case="words", at_least=80, unit="MB/s"),
        Target(promise="a log stream with 20 secrets and every letter", metric="mb_s", of="procflow stream, 20 secrets", case="every letter", limit="bytes.find for each form", at_least=80, unit="MB/s"),
        Target(promise="a command with 20 secrets", metric="us_command", of="procflow command, 20 secrets", case="words", at_most=60, unit="µs"),
        Target(promise="a command with 20 secrets, one option taken out", metric="us_command", of="procflow command, 20 secrets, one option taken out", case="words", at_most=60, unit="µs"),
        Target(promise="writing a log: share of a core at 100 MB/s", metric="core_at_100_mb_s", of="procflow log", case="words", at_most=0.15),
    ),
)  # fmt: skip
