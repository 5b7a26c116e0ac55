"""In-memory Kafka and Postgres behind the protocols that the real ones are used by."""
