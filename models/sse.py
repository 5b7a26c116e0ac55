"""Server-sent events as bytes come, read as the HTML standard has it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from models.errors import Unavailable

LINE_BYTES_MAX = 4 << 20


class ServerEvent(NamedTuple):
    """`last_id` is the id of this event, or of the one before that had one; `event` is `message` unless named."""

    last_id: str
    event: str
    data: str


class SseReader:
    """Takes bytes, cut anywhere, and returns the events that they complete. Comments and retry times are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._last_id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that end in this chunk. Raises Unavailable: a line is too long, or not UTF-8."""
        text = self._rest + chunk
        # The pair CR LF is one line's end, also when a chunk ends between the two.
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        if len(self._rest) > LINE_BYTES_MAX:
            raise Unavailable("the event stream", "a line is too long")
        found: list[ServerEvent] = []
        for line in lines:
            try:
                self._take(line.decode(), found)
            except UnicodeDecodeError:
                raise Unavailable("the event stream", "a line is not UTF-8") from None
        return found

    def _take(self, line: str, found: list[ServerEvent]) -> None:
        if not line:
            if self._data:
                found.append(ServerEvent(self._last_id, self._event or "message", "\n".join(self._data)))
            self._event, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._last_id = value
