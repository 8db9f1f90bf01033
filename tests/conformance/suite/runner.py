"""Runs cases, each on every broker, several at a time."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from collections.abc import Callable, Iterator

from .broker import Broker
from .case import Case, Failure
from .nodes import Node, Unavailable, merge
from .outcome import Run
from .settings import Settings

Make = Callable[[str, Settings], Node]


class Nodes:
    """The brokers that run: each is started when first asked for, and serves all cases of its settings."""

    def __init__(self, make: Make, cases: list[Case]):
        self.make = make
        self.cases = cases
        self.lock = threading.Lock()
        self.shared: dict[tuple[str, Settings], Future[Node]] = {}
        self.all: list[Node] = []

    def get(self, broker: str, settings: Settings) -> Node:
        if settings.is_private:
            return self.start(broker, settings, {})
        with self.lock:
            future = self.shared.get((broker, settings))
            is_first = future is None
            if is_first:
                future = self.shared[broker, settings] = Future()
        if is_first:
            self.fulfil(future, broker, settings)
        return future.result()

    def fulfil(self, future: Future, broker: str, settings: Settings):
        try:
            future.set_result(self.start(broker, settings, self.definitions_of(settings)))
        except Exception as error:
            future.set_exception(error)

    def start(self, broker: str, settings: Settings, definitions) -> Node:
        node = self.make(broker, settings)
        with self.lock:
            self.all.append(node)
        node.start(definitions)
        return node

    def definitions_of(self, settings: Settings):
        merged = {}
        for case in self.cases:
            if case.settings == settings:
                merged = merge(merged, case.definitions)
        return merged

    def release(self, node: Node):
        if node.is_disposable:
            node.stop()

    def stop(self):
        threads = [threading.Thread(target=node.stop) for node in self.all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run_all(cases: list[Case], brokers: list[str], nodes: Nodes, jobs: int) -> Iterator[tuple[Case, dict[str, Run]]]:
    """Every case in turn with what it did on each broker; they run side by side."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = {}
        for case in sorted(cases, key=lambda case: not case.settings.is_private):
            asked = brokers if case.has_oracle else [b for b in brokers if b != "rabbitmq"]
            futures[case.name] = {broker: pool.submit(run_one, case, broker, nodes) for broker in asked}
        for case in cases:
            if futures[case.name]:
                yield case, {broker: future.result() for broker, future in futures[case.name].items()}


def run_one(case: Case, name: str, nodes: Nodes) -> Run:
    try:
        node = nodes.get(name, case.settings)
    except Unavailable as error:
        return Run(failure=str(error))
    if case.definitions and not node.can_be_set_up:
        return Run(skipped=f"{name} runs already, and the case needs definitions of its own")
    broker = Broker(case, node)
    try:
        return drive(case, broker)
    finally:
        broker.clean()
        nodes.release(node)


def drive(case: Case, broker: Broker) -> Run:
    failure = None
    try:
        case.function(broker)
    except (Failure, Unavailable) as error:
        failure = str(error)
    except Exception as error:  # the case met what it was not written for; that is its failure, not the suite's
        failure = f"{type(error).__name__}: {error}"
    entries = broker.transcript.entries
    if not entries and failure is None:
        failure = "expected a transcript, found that nothing was recorded"
    return Run(entries, failure)
