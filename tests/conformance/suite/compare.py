"""Two transcripts side by side."""

import difflib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """Where two transcripts part: the entry, the field or the whole of it, and what each broker has there."""

    entry: str
    lanemq: str
    rabbitmq: str


def differences(lanemq: list[dict[str, Any]], rabbitmq: list[dict[str, Any]]) -> list[Difference]:
    """All that differs, in order. Entries of the same name are compared field by field."""
    left, right = [render(e) for e in lanemq], [render(e) for e in rabbitmq]
    found = []
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for kind, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        if kind != "equal":
            found += pairwise(lanemq[left_from:left_to], rabbitmq[right_from:right_to])
    return found


def pairwise(lanemq: list[dict[str, Any]], rabbitmq: list[dict[str, Any]]) -> list[Difference]:
    found = []
    for place in range(max(len(lanemq), len(rabbitmq))):
        ours = lanemq[place] if place < len(lanemq) else None
        theirs = rabbitmq[place] if place < len(rabbitmq) else None
        if ours and theirs and ours["entry"] == theirs["entry"]:
            found += by_field(ours["entry"], ours, theirs)
        else:
            found.append(Difference("entry", render(ours), render(theirs)))
    return found


def by_field(entry: str, ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[Difference]:
    found = []
    for name in list(theirs) + [n for n in ours if n not in theirs]:
        left, right = ours.get(name, ABSENT), theirs.get(name, ABSENT)
        if isinstance(left, dict) and isinstance(right, dict):
            found += by_field(entry, left, right, f"{path}{name}.")
        elif left != right:
            found.append(Difference(f"{entry}: {path}{name}", show(left), show(right)))
    return found


ABSENT = object()


def show(value) -> str:
    if value is ABSENT:
        return "(absent)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render(entry: dict[str, Any] | None) -> str:
    """An entry as one line."""
    if entry is None:
        return "(nothing)"
    fields = " ".join(f"{name}={show(value)}" for name, value in entry.items() if name != "entry")
    return f"{entry['entry']} {fields}".rstrip()
