"""Kinds of brokers a case may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How a broker is started. Cases of equal settings share one broker, unless it is private to each of them."""

    name: str
    rabbitmq: tuple[str, ...] = ()
    rabbitmq_advanced: str = ""
    lanemq: tuple[str, ...] = ()
    is_private: bool = False


PLUGINS = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
)

SHARED = Settings("shared")

# Limits so low that a case reaches them, and times so short that a case can wait for them.
LIMITED = Settings(
    "limited",
    rabbitmq=("max_message_size = 65536", "consumer_timeout = 1000", "handshake_timeout = 1000"),
    rabbitmq_advanced="[{rabbit, [{channel_tick_interval, 500}]}].",
    lanemq=(
        "limits.message_bytes_max=64 KiB",
        "limits.consumer_timeout_milliseconds=1000",
        "limits.handshake_timeout_milliseconds=1000",
    ),
)

# For cases that end their broker, or bring it into a state that others would notice.
PRIVATE = Settings("private", lanemq=("limits.memory=64 MiB",), is_private=True)
