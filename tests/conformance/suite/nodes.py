"""Brokers as processes: LaneMQ, RabbitMQ, and one that somebody else started."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from wire.connection import Timeout

from .case import Failure, wait_until
from .settings import PLUGINS, Settings

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 90
STOP_SECONDS = 30


RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def install_rabbitmq():
    """Sees to it that Debian's package is there, by apt-get as root or with sudo that asks nothing."""
    if RABBITMQ_SERVER.exists() or not shutil.which("apt-get"):
        return
    print("installing rabbitmq-server", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quietly = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run([*as_root, "apt-get", "update", "-qq"], **quietly)
    subprocess.run([*as_root, "apt-get", "install", "-y", "-qq", "rabbitmq-server"], **quietly)


class Unavailable(Exception):
    """The broker cannot be had with these settings, or cannot do what is asked of it."""


class Node:
    """A broker that can be connected to."""

    name = ""
    host = "127.0.0.1"
    port = 0
    is_disposable = False
    can_be_set_up = True

    def start(self, definitions: dict[str, Any]):
        """Starts, with these definitions in force."""

    def stop(self):
        """Ends, and removes what was written."""

    def import_definitions(self, definitions: dict[str, Any]):
        raise Unavailable(f"{self.name} was started by somebody else, who alone may change its definitions")

    def restart(self, kill: bool):
        raise Unavailable(f"{self.name} was started by somebody else, who alone may end it")

    def begin_to_stop(self):
        raise Unavailable(f"{self.name} was started by somebody else, who alone may end it")

    def raise_memory_alarm(self):
        raise Unavailable(f"{self.name} was started by somebody else, who alone may upset it")

    def clear_memory_alarm(self):
        """Takes back what `raise_memory_alarm` did."""


class ForeignNode(Node):
    """A broker under a URI."""

    can_be_set_up = False

    def __init__(self, name: str, uri: str):
        self.name = name
        self.host = urlparse(uri).hostname or "127.0.0.1"
        self.port = urlparse(uri).port or 5672


class OwnNode(Node):
    """A process of ours with a directory of its own."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.is_disposable = settings.is_private
        self.directory = Path(tempfile.mkdtemp(prefix=f"conformance-{self.name}-"))
        self.process: subprocess.Popen | None = None
        self.lock = threading.Lock()

    def stop(self):
        self.end_process()
        shutil.rmtree(self.directory, ignore_errors=True)

    def end_process(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def begin_to_stop(self):
        """Asks the process to end, and does not wait for it."""
        os.kill(self.process_that_serves(), signal.SIGTERM)

    def process_that_serves(self) -> int:
        return self.process.pid

    def write(self, name: str, content: str) -> Path:
        path = self.directory / name
        path.write_text(content)
        return path

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2000:]


class LaneMq(OwnNode):
    """LaneMQ. Definitions are a file that its settings name, read at the start and upon SIGHUP."""

    name = "lanemq"

    def __init__(self, settings: Settings, binary: Path):
        super().__init__(settings)
        self.binary = binary
        self.port = free_port()
        self.definitions: dict[str, Any] = {}
        self.hoard: Hoard | None = None

    def start(self, definitions: dict[str, Any]):
        self.definitions = definitions
        path = self.write("definitions.json", json.dumps(with_guest(definitions)))
        self.has_definitions = self.understands(f"definitions.file={path}")
        self.run()

    def understands(self, setting: str) -> bool:
        command = [self.binary, "serve", "--set", setting, "--print-config"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def run(self):
        settings = [s for s in self.settings.lanemq if self.understands(s)]
        if self.has_definitions:
            settings.append(f"definitions.file={self.directory / 'definitions.json'}")
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--cores", "0"]
        command += ["--data-dir", self.directory / "data"]
        command += [word for setting in settings for word in ("--set", setting)]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(self)

    def import_definitions(self, definitions: dict[str, Any]):
        if not self.has_definitions:
            raise Unavailable("this binary of lanemq has no setting for a file of definitions")
        with self.lock:
            self.definitions = merge(self.definitions, definitions)
            self.write("definitions.json", json.dumps(with_guest(self.definitions)))
            self.process.send_signal(signal.SIGHUP)

    def restart(self, kill: bool):
        if kill:
            self.process.kill()
        self.end_process()
        self.run()

    def raise_memory_alarm(self):
        """There is no switch: the memory is really filled."""
        self.hoard = Hoard(self.host, self.port)
        self.hoard.fill()

    def clear_memory_alarm(self):
        self.hoard.empty()


class RabbitMq(OwnNode):
    """RabbitMQ, by the script that also serves the clients' tests."""

    name = "rabbitmq"

    def start(self, definitions: dict[str, Any]):
        self.run()
        if definitions:
            self.import_definitions(definitions)

    def run(self):
        (self.directory / "node").mkdir(exist_ok=True)
        command = [ROOT / "tests/clients/start-rabbitmq", "--cores", "0", "--plugins", ",".join(PLUGINS)]
        command += ["--config", self.write("conf", "\n".join(self.settings.rabbitmq) + "\n")]
        command += ["--ctl", self.directory / "ctl", "--directory", self.directory / "node"]
        if self.settings.rabbitmq_advanced:
            command += ["--advanced", self.write("advanced", self.settings.rabbitmq_advanced)]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        lines = [self.process.stdout.readline() for _ in range(2)]
        if not lines[1]:
            raise Unavailable(f"rabbitmq did not start: {self.log()}")
        self.port, self.machine = int(lines[0]), int(lines[1])

    def process_that_serves(self) -> int:
        return self.machine

    def import_definitions(self, definitions: dict[str, Any]):
        with self.lock:
            path = self.write("definitions.json", json.dumps(definitions))
            self.control("import_definitions", str(path))

    def restart(self, kill: bool):
        if kill:
            os.kill(self.machine, signal.SIGKILL)
            wait_until("the machine is gone", lambda: not is_alive(self.machine))
        self.end_process()
        self.run()

    def raise_memory_alarm(self):
        self.control("set_vm_memory_high_watermark", "0")

    def clear_memory_alarm(self):
        self.control("set_vm_memory_high_watermark", "0.9")

    def control(self, *words: str) -> str:
        done = subprocess.run([self.directory / "ctl", *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable(f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout


class Hoard:
    """A queue that is filled until the broker complains, and emptied again."""

    QUEUE = "hoard"
    PORTION = 1 << 20

    def __init__(self, host: str, port: int):
        from .client import Client  # it says what it saw to a transcript, and this one is not kept
        from .transcript import Transcript

        self.publisher = Client(host, port, "hoard", Transcript()).open()
        self.consumer = Client(host, port, "hoard", Transcript()).open()
        self.channel = self.publisher.channel()
        self.channel.declare(self.QUEUE)

    def fill(self):
        deadline = time.monotonic() + START_SECONDS
        while not self.publisher.connection.inboxes[0]:
            if time.monotonic() > deadline:
                raise Failure(f"expected an alarm within {START_SECONDS} s of publishing, found none")
            self.channel.publish("", self.QUEUE, bytes(self.PORTION), delivery_mode=1)
            self.poll()

    def poll(self):
        with contextlib.suppress(Timeout):
            self.publisher.connection.read_frame(time.monotonic() + 0.01)

    def empty(self):
        self.consumer.channel().ask("queue.purge", "queue.purge-ok", queue=self.QUEUE)


def free_port() -> int:
    """A port below the range from which the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for_port(node: OwnNode):
    deadline = time.monotonic() + START_SECONDS
    while True:
        if node.process.poll() is not None:
            raise Unavailable(f"{node.name} did not start: {node.log()}")
        if greets(node):
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"{node.name} did not listen within {START_SECONDS} s: {node.log()}")
        time.sleep(0.05)


def greets(node: OwnNode) -> bool:
    """Whether the broker says connection.start: a process that was killed may seem to listen for a moment longer."""
    with contextlib.suppress(OSError), socket.create_connection((node.host, node.port), timeout=1) as connection:
        connection.sendall(b"AMQP\0\0\x09\x01")
        return connection.recv(1) == b"\x01"
    return False


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both definitions; of an entry that both have, the second's."""
    merged = dict(first)
    for kind, entries in second.items():
        known = {identity(entry): entry for entry in merged.get(kind, [])}
        known.update({identity(entry): entry for entry in entries})
        merged[kind] = list(known.values())
    return merged


def identity(entry: dict[str, Any]) -> tuple:
    return tuple(str(entry.get(key)) for key in ("vhost", "user", "name", "exchange", "component"))


def with_guest(definitions: dict[str, Any]) -> dict[str, Any]:
    """The user and vhost a broker has by itself, which a file of definitions would otherwise leave out."""
    guest = {
        "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    }
    return merge(guest, definitions)
