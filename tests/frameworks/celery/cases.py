"""Celery with its workers: cases.py URI CASE."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import proof
from proof import expect, wait_until

TASK_COUNT = int(os.environ.get("CELERY_TASKS", "10000"))
LATER_COUNT = 3
# Before the application is imported: it reads what is this case's own from the environment.
SCRATCH = tempfile.mkdtemp(prefix="celery-")
os.makedirs(f"{SCRATCH}/results")
os.environ |= {
    "BROKER_URI": sys.argv[1],
    "RESULTS": "rpc://" if sys.argv[2] == "rpc_results" else f"file://{SCRATCH}/results",
    "RECORD": f"{SCRATCH}/record",
    "QUEUE": proof.named("celery"),
}

from celery import chain, chord, group  # noqa: E402

import application as tasks  # noqa: E402
from application import QUEUE, application  # noqa: E402


def tasks_survive_killed_workers(_uri):
    """Every one of many tasks is done, though the worker is killed twice while it works."""
    with Worker("--concurrency=2", "--prefetch-multiplier=8", "--without-gossip", "--without-mingle") as worker:
        publisher = threading.Thread(target=publish_tasks, daemon=True)
        publisher.start()
        for part in (1 / 4, 1 / 2):
            wait_until(f"{part:.0%} of the tasks done", lambda: len(recorded()) >= part * TASK_COUNT, seconds=60)
            worker.kill()
            worker.start()
        publisher.join()
        wait_until("all tasks done", lambda: len(set(recorded())) == TASK_COUNT, seconds=90, step=0.2)
    done = Counter(recorded())
    expect("tasks not done", set(), {str(number) for number in range(TASK_COUNT)} - set(done))
    print(f"{TASK_COUNT} tasks done, {sum(done.values()) - TASK_COUNT} of them once more after a kill")
    expect("messages left", 0, message_count(QUEUE))


def publish_tasks():
    with application.producer_or_acquire() as producer:
        for number in range(TASK_COUNT):
            tasks.record.apply_async((number,), producer=producer)


def lost_process(_uri):
    """A task whose process dies is rejected by the worker and comes back, marked redelivered."""
    with Worker("--concurrency=1"):
        tasks.lose_the_first_process.delay("only")
        wait_until("a second delivery", lambda: len(recorded()) >= 2)
    expect("deliveries", ["only False", "only True"], recorded())


def retries_and_eta(_uri):
    """Tasks for later are held unacknowledged, so the worker raises its prefetch count and gets on with the others."""
    with Worker("--concurrency=1", "--prefetch-multiplier=1"):
        # The worker raises its count by one for each, at times only when it next looks at its clock, up to 2 s later.
        soon = datetime.now(timezone.utc) + timedelta(seconds=12)
        for number in range(LATER_COUNT):
            tasks.record_time.apply_async((f"later-{number}",), eta=soon)
        tasks.record_time.delay("now")
        retried = [tasks.succeed_the_third_time.delay(number) for number in range(5)]
        expect("results of retried tasks", list(range(5)), [result.get(timeout=30) for result in retried])
        wait_until("all tasks done", lambda: len(recorded()) == LATER_COUNT + 5 * 3 + 1)
    times = {name: float(at) for name, at in (line.split() for line in recorded()) if not name.isdigit()}
    early = sorted(name for name in times if name != "now" and times[name] < soon.timestamp())
    expect("tasks done before their time", [], early)
    expect("the other task done before theirs", True, times["now"] < soon.timestamp())
    expect("attempts", {f"{number} {attempt}" for number in range(5) for attempt in range(3)},
           {line for line in recorded() if line[0].isdigit()})  # fmt: skip


def priorities(_uri):
    """What waits in a queue with priorities is taken in their order, and in the order it came within one."""
    numbers = range(60)
    with application.connection_for_write() as connection:
        application.amqp.queues[f"{QUEUE}-urgent"](connection.default_channel).declare()
    for number in numbers:
        tasks.record.apply_async((number,), queue=f"{QUEUE}-urgent", priority=priority_of(number))
    wait_until("all tasks waiting", lambda: message_count(f"{QUEUE}-urgent") == len(numbers))
    with Worker("--concurrency=1", "--prefetch-multiplier=1", queue=f"{QUEUE}-urgent"):
        wait_until("all tasks done", lambda: len(recorded()) == len(numbers))
    expect("order", sorted(numbers, key=lambda number: -priority_of(number)), [int(line) for line in recorded()])


def priority_of(number):
    return [0, 3, 9, 5, 12][number % 5] if number % 5 < 4 else tasks.PRIORITY_COUNT


def chords(_uri):
    """Chords, chains and groups; the join of a chord is a task that retries until all parts have a result."""
    with Worker("--concurrency=2"):
        sums = [chord((tasks.add.s(part, part) for part in range(10)), tasks.total.s()).delay() for _ in range(5)]
        chained = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4)).delay()
        grouped = group(tasks.add.s(number, 1) for number in range(10)).delay()
        after = chain(group(tasks.add.s(number, number) for number in range(4)), tasks.total.s(), tasks.add.s(1)).delay()
        expect("chords", [90] * 5, [result.get(timeout=30) for result in sums])
        expect("chain", 10, chained.get(timeout=30))
        expect("group", list(range(1, 11)), grouped.get(timeout=30))
        expect("chain through a chord", 13, after.get(timeout=30))


def rpc_results(_uri):
    """The rpc:// backend: results in a reply queue of the client's own, auto-delete and with an x-expires."""
    with Worker("--concurrency=2"):
        results = [tasks.add.delay(number, number) for number in range(50)]
        expect("results", [2 * number for number in range(50)], [result.get(timeout=20) for result in results])


def remote_control(_uri):
    """Ping, inspection, a queue added and cancelled, the pool grown, events, and the end by remote control."""
    with Worker("--concurrency=1", "--task-events") as worker, Events() as events:
        control, destination = application.control, [worker.name]
        expect("ping", [{worker.name: {"ok": "pong"}}], control.ping(destination=destination, timeout=5))
        inspect = control.inspect(destination=destination, timeout=5)
        expect("active queues", [QUEUE], [queue["name"] for queue in inspect.active_queues()[worker.name]])
        expect("registered", True, "application.add" in inspect.registered()[worker.name])
        control.add_consumer(f"{QUEUE}-more", reply=True, destination=destination, timeout=5)
        tasks.record.apply_async(("more",), queue=f"{QUEUE}-more")
        wait_until("the task in the added queue", lambda: recorded() == ["more"])
        control.cancel_consumer(f"{QUEUE}-more", reply=True, destination=destination, timeout=5)
        wait_until("a queue less", lambda: [queue["name"] for queue in inspect.active_queues()[worker.name]] == [QUEUE])
        control.pool_grow(2, reply=True, destination=destination, timeout=5)
        wait_until("three processes", lambda: len(inspect.stats()[worker.name]["pool"]["processes"]) == 3)
        expect("result", 3, tasks.add.delay(1, 2).get(timeout=20))
        wait_until("events of a task", lambda: {"task-received", "task-started", "task-succeeded"} <= events.seen)
        control.shutdown(destination=destination)
        worker.wait_for_end()
        wait_until("the event of the end", lambda: "worker-offline" in events.seen)
    expect("ping after the end", [], control.ping(destination=destination, timeout=1))


CASES = [
    tasks_survive_killed_workers, lost_process, retries_and_eta, priorities, chords, rpc_results, remote_control,
]  # fmt: skip


class Worker:
    """A Celery worker in processes of its own."""

    def __init__(self, *options, queue=QUEUE):
        self.name = f"{proof.named('worker')}@localhost"
        self.command = [
            sys.executable, "-m", "celery", "--app=application", "worker", f"--hostname={self.name}",
            f"--queues={queue}", "--loglevel=warning", *options,
        ]  # fmt: skip
        self.log = f"{SCRATCH}/{self.name}.log"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
            return
        self.kill()
        with open(self.log) as log:
            sys.stderr.write("".join(log.readlines()[-40:]))

    def start(self):
        ready = f"{tasks.RECORD}.ready"
        with suppress(FileNotFoundError):
            os.remove(ready)
        with open(self.log, "a") as log:
            here = os.path.dirname(os.path.abspath(__file__))
            self.process = subprocess.Popen(
                self.command, cwd=here, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until("a worker that is ready", lambda: self.is_running() and os.path.exists(ready), seconds=60, step=0.1)

    def is_running(self):
        expect("exit status of the worker", None, self.process.poll())
        return True

    def stop(self):
        """A warm end: what it runs is finished, what it holds goes back."""
        if self.process.poll() is None:
            self.process.terminate()
            self.wait_for_end()

    def wait_for_end(self):
        expect("exit status of the worker", 0, self.process.wait(30))

    def kill(self):
        """Kills it and the processes of its pool, as the end of a machine would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Events:
    """Collects the kinds of the events that workers send."""

    def __init__(self):
        self.seen = set()
        self.connection = application.connection_for_read()
        self.receiver = application.events.Receiver(self.connection, handlers={"*": self._see})
        self.thread = threading.Thread(target=self._receive, daemon=True)

    def _see(self, event):
        self.seen.add(event["type"])

    def _receive(self):
        for _ in self.receiver.consume(limit=None, timeout=None, wakeup=True):
            pass

    def __enter__(self):
        self.thread.start()
        wait_until("an event", lambda: self.seen)
        return self

    def __exit__(self, *_):
        self.receiver.should_stop = True
        self.thread.join(5)


def recorded():
    """The lines that tasks have written, in their order."""
    with suppress(FileNotFoundError), open(tasks.RECORD) as record:
        return record.read().splitlines()
    return []


def message_count(queue_name):
    with application.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue_name, passive=True).message_count


if __name__ == "__main__":
    proof.main(CASES, deadlines={"tasks_survive_killed_workers": 200})
