"""The habits of frameworks in other languages, spoken by pika: cases.py URI CASE."""

import proof
from laravel import laravel
from masstransit import (
    masstransit,
    masstransit_delayed_exchange,
    masstransit_quorum,
    masstransit_single_active_consumer,
)
from nservicebus import nservicebus, nservicebus_delays, nservicebus_delays_quorum
from sneakers import sneakers
from spring_cloud_stream import spring_cloud_stream, spring_cloud_stream_retries

CASES = [
    masstransit, masstransit_quorum, masstransit_single_active_consumer, masstransit_delayed_exchange, sneakers, laravel,
    spring_cloud_stream, spring_cloud_stream_retries, nservicebus, nservicebus_delays, nservicebus_delays_quorum,
]  # fmt: skip

if __name__ == "__main__":
    proof.main(CASES)
