"""A large file on its way from one place to another: on disk, so that memory never holds more than a part of it."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from types import TracebackType
from typing import BinaryIO

from models.errors import Unavailable

BUFFER_BYTES = 1 << 20


class Spool:
    """A file without a name: whatever becomes of the process, nothing is left of it.

    `async with Spool() as spool`, then `take` the parts, `whole` once all have come.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    async def __aenter__(self) -> Spool:
        try:
            self._file: BinaryIO = await asyncio.to_thread(tempfile.TemporaryFile)
        except OSError as error:
            raise Unavailable("the folder for temporary files", str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    async def take(self, part: bytes) -> None:
        """Append a part. Raises Unavailable: the disk takes no more."""
        self._buffer += part
        if len(self._buffer) >= BUFFER_BYTES:
            await self._flush()

    async def whole(self) -> tuple[BinaryIO, str]:
        """(the file, the SHA-256 of its bytes in hexadecimal). Raises Unavailable."""
        await self._flush()
        return self._file, self._digest.hexdigest()

    async def _flush(self) -> None:
        waiting, self._buffer = bytes(self._buffer), bytearray()
        self.size_bytes += len(waiting)
        try:
            await asyncio.to_thread(self._write, waiting)
        except OSError as error:
            raise Unavailable("the folder for temporary files", str(error)) from error

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)
        self._file.flush()
