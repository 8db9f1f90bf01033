"""What the cases in Python share: how a case is run and judged, and how it waits."""

import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
import uuid


class Unexpected(Exception):
    """What a case found in place of what it expected."""


class Skipped(Exception):
    """Why a case cannot be run against this broker."""


def expect(what, expected, found):
    if expected != found:
        raise Unexpected(f"expected {what} {expected!r}, found {found!r}")


def wait_until(what, is_so, seconds=30, step=0.02):
    """Waits until is_so() answers with something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        answer = is_so()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Unexpected(f"expected {what} within {seconds} s, found {answer!r}")
        time.sleep(step)


def restart_broker(by_signal):
    """Stops the broker by TERM or KILL and starts it again; returns when it accepts connections."""
    subprocess.run([*shlex.split(os.environ["RESTART_BROKER"]), by_signal], check=True, stdin=subprocess.DEVNULL)


def is_rabbitmq():
    return os.environ["BROKER"] == "rabbitmq"


def named(label):
    return f"{label}-{uuid.uuid4().hex[:12]}"


def set_deadline(seconds):
    def end_late(_signal, _frame):
        raise Unexpected(f"expected an end within {seconds} s, found none")

    signal.signal(signal.SIGALRM, end_late)
    signal.alarm(seconds)


def main(cases, deadlines=None):
    """Runs the case named by the arguments URI CASE and prints its outcome; deadlines are in seconds, else 60."""
    uri, name = sys.argv[1:]
    case = {case.__name__: case for case in cases}[name]
    set_deadline((deadlines or {}).get(name, 60))
    start = time.monotonic()
    try:
        case(uri)
    except Skipped as reason:
        end_with(77, f"SKIPPED {name}: {reason}")
    except Exception as failure:
        traceback.print_exc()
        end_with(1, f"FAILED {name}: {in_one_line(failure)}")
    end_with(0, f"ok {name} {time.monotonic() - start:.3f}s")


def in_one_line(failure):
    text = str(failure) if isinstance(failure, Unexpected) else f"expected no error, found {failure!r}"
    return " ".join(text.split())


def end_with(status, line):
    """Ends at once: what a framework still holds open must not keep a case that is judged."""
    print(line, flush=True)
    os._exit(status)
