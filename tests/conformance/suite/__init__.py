"""The suite: cases, what they may do to a broker, what they saw, and the comparison of two brokers."""
