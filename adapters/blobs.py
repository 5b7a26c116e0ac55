"""Objects by key: a local folder or an S3-compatible store, the same to whoever uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from models.errors import BadSetting, Unavailable
from models.pictures import content_type_of_key

OPERATION_TIMEOUT_S = 30.0
FILE_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 256 * 1024
# A file goes up in parts of this size (S3 takes no smaller ones), so many at once: what of it is in memory.
FILE_PART_BYTES = 5 << 20
FILE_PARTS_AT_ONCE = 2
# A key names its content, so what is cached is right for ever.
CACHE_CONTROL = "public, max-age=31536000, immutable"


class Blobs(Protocol):
    """An object store. Every method raises Unavailable when the store is away, full or too slow."""

    async def put(self, key: str, data: bytes) -> None:
        """Write an object whole or not at all; one that is there is replaced."""

    async def put_file(self, key: str, file: BinaryIO) -> None:
        """The same with an open file, from its beginning, part by part."""

    async def get(self, key: str) -> bytes | None:
        """An object's bytes; None if there is none."""

    async def open(self, key: str, span: Span | None = None) -> OpenBlob | None:
        """An object, or a span of it, to be read in parts; None if there is none."""

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    async def stat(self, key: str) -> Listed | None:
        """What a list would say of an object; None if there is none."""

    async def signed_url(self, key: str, method: Literal["GET", "HEAD"], valid_s: int) -> str | None:
        """Where whoever holds the link may have an object for so long; None if the store gives no links.

        Whether there is such an object is not looked at.
        """

    def list(self, prefix: str) -> AsyncIterator[Listed]:
        """The objects below a prefix (whole path segments), in no particular order."""


class Listed(NamedTuple):
    """An object in a list. `modified_at` is when it was last put, by the store's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


class Span(NamedTuple):
    """The bytes from `begin` up to but without `end`, within the object and not empty."""

    begin: int
    end: int


class OpenBlob:
    """An object about to be read. `size_bytes` is what is to come."""

    def __init__(self, result: obstore.GetResult) -> None:
        self._result = result
        begin, end = result.range
        self.size_bytes = end - begin

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes, in parts of about CHUNK_BYTES. Raises Unavailable."""
        with _mapped_errors():
            async for part in self._result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(part)


class ObjectBlobs:
    """Blobs on obstore."""

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def put(self, key: str, data: bytes) -> None:
        """See Blobs. Locally a file is written beside its place and then renamed, so nobody sees half of it."""
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                await obstore.put_async(self._store, key, data, attributes=self._attributes(key))

    async def put_file(self, key: str, file: BinaryIO) -> None:
        """See Blobs."""
        with _mapped_errors():
            async with asyncio.timeout(FILE_TIMEOUT_S):
                file.seek(0)
                await obstore.put_async(
                    self._store,
                    key,
                    file,
                    attributes=self._attributes(key),
                    chunk_size=FILE_PART_BYTES,
                    max_concurrency=FILE_PARTS_AT_ONCE,
                )

    async def get(self, key: str) -> bytes | None:
        """See Blobs."""
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                try:
                    result = await obstore.get_async(self._store, key)
                    return bytes(await result.bytes_async())
                except FileNotFoundError:
                    return None

    async def open(self, key: str, span: Span | None = None) -> OpenBlob | None:
        """See Blobs."""
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                try:
                    options: obstore.GetOptions = {} if span is None else {"range": (span.begin, span.end)}
                    return OpenBlob(await obstore.get_async(self._store, key, options=options))
                except FileNotFoundError:
                    return None

    async def exists(self, key: str) -> bool:
        """See Blobs."""
        return await self.stat(key) is not None

    async def stat(self, key: str) -> Listed | None:
        """See Blobs."""
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                try:
                    found = await obstore.head_async(self._store, key)
                except FileNotFoundError:
                    return None
                return Listed(key, found["size"], found["last_modified"])

    async def delete(self, key: str) -> None:
        """See Blobs."""
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                try:
                    await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    return

    async def signed_url(self, key: str, method: Literal["GET", "HEAD"], valid_s: int) -> str | None:
        """See Blobs. S3 signs; the name of a local file is nobody's business."""
        if not isinstance(self._store, S3Store):
            return None
        with _mapped_errors():
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                return await obstore.sign_async(self._store, method, key, timedelta(seconds=valid_s))

    async def list(self, prefix: str) -> AsyncIterator[Listed]:
        """See Blobs."""
        with _mapped_errors():
            async for page in obstore.list(self._store, prefix, chunk_size=1000):
                for entry in page:
                    yield Listed(entry["path"], entry["size"], entry["last_modified"])

    def _attributes(self, key: str) -> obstore.Attributes | None:
        """What S3 says of an object to whoever comes with a link; folders keep no such thing."""
        content_type = content_type_of_key(key)
        if content_type is None or not isinstance(self._store, S3Store):
            return None
        return {"Content-Type": content_type, "Cache-Control": CACHE_CONTROL}


def open_blobs(location: str) -> ObjectBlobs:
    """The store at a location: a folder (made if missing) or `s3://bucket[/prefix]`.

    S3 takes its credentials, region and endpoint from the usual AWS_* variables.
    Raises BadSetting: there can be no store at this location.
    """
    try:
        if location.startswith("s3://"):
            return ObjectBlobs(
                S3Store.from_url(
                    location,
                    client_options={
                        "timeout": f"{OPERATION_TIMEOUT_S:.0f}s",
                        "connect_timeout": f"{CONNECT_TIMEOUT_S:.0f}s",
                        "allow_http": True,
                    },
                    retry_config={"max_retries": 2},
                )
            )
        if "://" in location:
            raise BadSetting("DARKROOM_BLOBS", "must be a folder or s3://bucket")
        return ObjectBlobs(LocalStore(prefix=Path(location).absolute(), mkdir=True))
    except (BaseError, OSError, ValueError) as error:
        raise BadSetting("DARKROOM_BLOBS", f"{location} cannot be used: {_first_line(error)}") from error


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, TimeoutError) as error:
        raise Unavailable("the blob store", _first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
