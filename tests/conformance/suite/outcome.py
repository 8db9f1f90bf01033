"""What became of a case, and of the differences that are known."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import Case
from .compare import Difference, differences

OK, DIFFERS, FAILED, KNOWN, STALE, SKIPPED = "ok", "DIFFERS", "FAILED", "known", "STALE", "skipped"
GOOD = {OK, KNOWN, SKIPPED}
KNOWN_MAX = 20


@dataclass
class Run:
    """One case on one broker."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None
    skipped: str | None = None


@dataclass
class Outcome:
    """One case on all brokers that were asked."""

    case: Case
    status: str
    runs: dict[str, Run]
    differences: list[Difference]


@dataclass(frozen=True)
class KnownDifference:
    """A case in which LaneMQ's answer is the better one, with all that differs there, as `in_one_line` has it."""

    case: str
    reason: str
    differs: list[str]


def read_known(path: Path) -> list[KnownDifference]:
    known = [KnownDifference(**entry) for entry in tomllib.loads(path.read_text()).get("difference", [])]
    if len(known) > KNOWN_MAX:
        raise ValueError(f"{path.name}: expected at most {KNOWN_MAX} differences, found {len(known)}")
    return known


def judge(case: Case, runs: dict[str, Run], known: list[KnownDifference]) -> Outcome:
    """The worst that can be said of the case."""
    found = []
    if len(runs) == 2:
        found = differences(runs["lanemq"].entries, runs["rabbitmq"].entries)
    excused = next((k for k in known if k.case == case.name), None)
    return Outcome(case, status_of(runs, found, excused), runs, found)


def status_of(runs: dict[str, Run], found: list[Difference], excused: KnownDifference | None) -> str:
    if any(run.skipped for run in runs.values()):
        return SKIPPED
    if any(run.failure for run in runs.values()):
        return FAILED
    if any(not run.entries for run in runs.values()):
        return FAILED
    if len(runs) < 2 or not (found or excused):
        return OK
    listed = set(excused.differs) if excused else set()
    seen = {in_one_line(difference) for difference in found}
    if seen - listed:
        return DIFFERS
    return STALE if listed - seen else KNOWN


def in_one_line(difference: Difference) -> str:
    return f"{difference.entry} | {difference.lanemq} | {difference.rabbitmq}"
