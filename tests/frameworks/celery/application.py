"""The Celery application that the cases and their workers share.

Its environment names what is a case's own: BROKER_URI, RESULTS (the result backend's address), RECORD (the file to
which tasks write what they did; the worker makes RECORD.ready when it consumes) and QUEUE (the default queue).
"""

import os
import signal
import time

from celery import Celery
from celery.signals import worker_ready
from kombu import Queue

QUEUE = os.environ["QUEUE"]
RECORD = os.environ["RECORD"]
PRIORITY_COUNT = 10

application = Celery("application", broker=os.environ["BROKER_URI"], backend=os.environ["RESULTS"])
application.conf.update(
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE), Queue(f"{QUEUE}-urgent", max_priority=PRIORITY_COUNT)],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=True,
    result_chord_retry_interval=0.2,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


@worker_ready.connect
def tell_that_it_is_ready(**_):
    open(f"{RECORD}.ready", "w").close()


def write_down(text):
    """Appends a line to the record; lines as short as these are written whole, by whatever many processes."""
    record = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(record, f"{text}\n".encode())
    finally:
        os.close(record)


@application.task(ignore_result=True)
def record(number):
    write_down(number)


@application.task(bind=True, max_retries=3)
def succeed_the_third_time(self, number):
    write_down(f"{number} {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0.3)
    return number


@application.task(ignore_result=True)
def record_time(number):
    write_down(f"{number} {time.time()}")


@application.task(bind=True, ignore_result=True)
def lose_the_first_process(self, number):
    """Kills the process that runs it, unless it has been delivered before."""
    write_down(f"{number} {self.request.delivery_info['redelivered']}")
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)


@application.task
def add(left, right):
    return left + right


@application.task
def total(numbers):
    return sum(numbers)
