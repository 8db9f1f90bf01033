"""What a case is, and how it says what it expects."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .settings import SHARED, Settings

WAIT_SECONDS = 15
POLL_SECONDS = 0.02


class Failure(Exception):
    """A direct expectation that was not met."""


@dataclass(frozen=True)
class Case:
    """A function that drives a broker, with the lines of the reference it proves and a sentence that says what."""

    name: str
    theme: str
    lines: tuple[int | str, ...]
    sentence: str
    function: Callable
    settings: Settings
    definitions: dict[str, Any]
    has_oracle: bool


CASES: list[Case] = []


def case(*lines_and_sentence, settings: Settings = SHARED, definitions: dict | None = None, oracle: bool = True):
    """Registers a case: `@case(8, "1.6", "a sentence")`. A number is a line of the reference's second section, a string
    one of its other sections. Without `oracle` RabbitMQ is not asked, since it has no such thing."""
    *lines, sentence = lines_and_sentence

    def register(function):
        name, theme = function.__name__, function.__module__.rpartition(".")[2]
        if any(other.name == name for other in CASES):
            raise ValueError(f"expected one case named {name}, found two")
        CASES.append(Case(name, theme, tuple(lines), sentence, function, settings, definitions or {}, oracle))
        return function

    return register


def expect(what: str, found, expected):
    """Fails the case unless both are equal."""
    if found != expected:
        raise Failure(f"{what}: expected {expected!r}, found {found!r}")


def wait_until(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS):
    """Asks again and again until the condition holds, and returns what it said then."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failure(f"expected within {seconds} s that {what}, found that it did not")
        time.sleep(POLL_SECONDS)
