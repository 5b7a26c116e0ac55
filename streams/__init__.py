"""Kafka: the topic registry, the lane, the delivery step and the producer."""
