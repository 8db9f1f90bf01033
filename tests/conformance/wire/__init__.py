"""AMQP 0-9-1 as bytes: values, methods, frames, and a connection that reads and writes them.

Written from the specification with RabbitMQ's field types and extensions. It takes no part in the protocol by itself:
nothing is answered, hidden or checked unless a caller asks for it.
"""
