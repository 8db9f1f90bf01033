"""What the suite says: a line for each case, the differences side by side, the counts and the lines it covers."""

import json
import textwrap
import tomllib
from pathlib import Path

from .case import CASES
from .compare import render
from .outcome import DIFFERS, GOOD, OK, KnownDifference, Outcome, in_one_line
from .transcript import ranges

LINES = range(1, 136)
COLUMN = 74


def print_outcome(outcome: Outcome, is_verbose: bool):
    case = outcome.case
    lines = ",".join(str(line) for line in case.lines)
    print(f"{outcome.status:8}{case.theme}/{case.name} [{lines}]", flush=True)
    if outcome.status in GOOD and not is_verbose:
        return
    print(f"        {case.sentence}")
    for broker, run in outcome.runs.items():
        if run.failure:
            print(f"        {broker}: {run.failure}")
    print_differences(outcome)
    if is_verbose:
        print_transcripts(outcome)


def print_differences(outcome: Outcome):
    if not outcome.differences:
        return
    print(f"        {'lanemq':{COLUMN}} | rabbitmq")
    for difference in outcome.differences:
        print(f"      - {difference.entry}")
        left, right = wrap(difference.lanemq), wrap(difference.rabbitmq)
        for place in range(max(len(left), len(right))):
            ours = left[place] if place < len(left) else ""
            theirs = right[place] if place < len(right) else ""
            print(f"        {ours:{COLUMN}} | {theirs}")


def wrap(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMN, drop_whitespace=False) or [""]


def print_transcripts(outcome: Outcome):
    for broker, run in outcome.runs.items():
        for entry in run.entries:
            print(f"        {broker}: {render(entry)}")


def print_summary(outcomes: list[Outcome], elsewhere: dict[int, str]):
    counts = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    print()
    print_coverage(elsewhere)
    total = ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), key=lambda c: c[0] != OK))
    print(f"{len(outcomes)} cases: {total or 'none'}")


def print_coverage(elsewhere: dict[int, str]):
    covered = {line for case in CASES for line in case.lines}
    print(f"lines of section 2 with a case: {ranges([n for n in LINES if n in covered])}")
    for line, reason in sorted(elsewhere.items()):
        print(f"lines left to other tests: {line}{' in part' if line in covered else ''}: {reason}")
    print(f"lines without a test: {ranges(uncovered(elsewhere)) or 'none'}")


def uncovered(elsewhere: dict[int, str]) -> list[int]:
    covered = {line for case in CASES for line in case.lines}
    return [line for line in LINES if line not in covered and line not in elsewhere]


def read_elsewhere(path: Path) -> dict[int, str]:
    return {int(line): reason for line, reason in tomllib.loads(path.read_text())["elsewhere"].items()}


def print_stale(known: list[KnownDifference]) -> bool:
    """Says which known differences are gone; whether there are any."""
    stale = [(entry.case, line) for entry in known for line in entry.stale()]
    for case, line in stale:
        print(f"STALE   {case}: in differences.toml and gone: {line}")
    return bool(stale)


def print_known(outcomes: list[Outcome]):
    """Entries for the file of known differences, which lack nothing but their reasons."""
    for outcome in outcomes:
        if outcome.status == DIFFERS:
            lines = ",\n".join(f"    {json.dumps(in_one_line(d))}" for d in outcome.differences)
            print(f'\n[[difference]]\ncase = "{outcome.case.theme}/{outcome.case.name}"\nreason = ""\ndiffers = [\n{lines},\n]')


def write_json(path: Path, outcomes: list[Outcome]):
    report = [
        {
            "case": outcome.case.name,
            "theme": outcome.case.theme,
            "lines": outcome.case.lines,
            "sentence": outcome.case.sentence,
            "status": outcome.status,
            "failures": {broker: run.failure for broker, run in outcome.runs.items() if run.failure},
            "differences": [vars(difference) for difference in outcome.differences],
            "transcripts": {broker: run.entries for broker, run in outcome.runs.items()},
        }
        for outcome in outcomes
    ]
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
