"""Records that came to another partition than their key's, from clients with another partitioner.

A user's limits and balances are exact only where all that concerns the user meets, so such a record is sent on,
unchanged, to the partition of its key, and decided there.
"""

from __future__ import annotations

import msgspec

from models.outputs import Output, Record, bounded_headers

FORWARDED_VALUE_BYTES_MAX = 512 * 1024
"""A larger record cannot be sent on: uncompressed it may not fit its topic. It is answered where it is."""
FORWARDED_HEADERS_BYTES_MAX = 64 * 1024


class Misrouted(msgspec.Struct, frozen=True, gc=False):
    """A record that can be answered, in a partition that its key does not belong to."""


class Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Sent on to the partition of its key."""


def may_be_forwarded(record: Record) -> bool:
    """Whether the record fits its topic also when it comes uncompressed."""
    return len(record.value or b"") <= FORWARDED_VALUE_BYTES_MAX


def forwarded(topic: str, record: Record) -> Output:
    """The record once more, as it is; headers that are too many to fit are left out."""
    return (topic, record.key, record.value, bounded_headers(record.headers, FORWARDED_HEADERS_BYTES_MAX))
