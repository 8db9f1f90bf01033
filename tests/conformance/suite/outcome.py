"""What became of a case, and of the differences that are known."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import Case
from .compare import Difference, differences

OK, DIFFERS, FAILED, KNOWN, SKIPPED = "ok", "DIFFERS", "FAILED", "known", "skipped"
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


@dataclass
class KnownDifference:
    """Where LaneMQ's answer is the better one: cases, and how what differs there is printed. A * stands for anything,
    in the theme and name of the case as in the lines."""

    case: str
    reason: str
    differs: list[str]
    seen: set[str] = field(default_factory=set)
    has_met_its_case: bool = False

    def stale(self) -> list[str]:
        """The lines that were not seen, though their cases ran."""
        return [line for line in self.differs if line not in self.seen] if self.has_met_its_case else []


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
    return Outcome(case, status_of(case, runs, found, known), runs, found)


def status_of(case: Case, runs: dict[str, Run], found: list[Difference], known: list[KnownDifference]) -> str:
    if any(run.skipped for run in runs.values()):
        return SKIPPED
    if any(run.failure for run in runs.values()):
        return FAILED
    if len(runs) < 2:
        return OK
    applying = [k for k in known if matches(k.case, f"{case.theme}/{case.name}")]
    for entry in applying:
        entry.has_met_its_case = True
    excused = [is_excused(in_one_line(difference), applying) for difference in found]
    if not all(excused):
        return DIFFERS
    return KNOWN if found else OK


def is_excused(line: str, applying: list[KnownDifference]) -> bool:
    for entry in applying:
        for pattern in entry.differs:
            if matches(pattern, line):
                entry.seen.add(pattern)
                return True
    return False


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None


def in_one_line(difference: Difference) -> str:
    return f"{difference.entry} | {difference.lanemq} | {difference.rabbitmq}"
