"""Which partition a key belongs to."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2

from models.outputs import Record
from models.routing import may_be_forwarded


def partition_of(key: str, partitions: int) -> int:
    """Where every client with the Java client's default partitioner puts this key."""
    hashed: int = murmur2(key.encode())
    return (hashed & 0x7FFFFFFF) % partitions


remembered_partition_of = lru_cache(maxsize=200_000)(partition_of)
"""The same for keys that come again and again: hashing one costs more than all else in reading a request."""


def is_at_home(record: Record, key: str, partitions: int) -> bool:
    """Whether the record is in its key's partition, or must be taken as if it were since it cannot be sent on."""
    return remembered_partition_of(key, partitions) == record.partition or not may_be_forwarded(record)
