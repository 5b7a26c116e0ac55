"""The gateway's answers: documents, and the errors that its problems stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from models.access import Forbidden
from models.errors import DarkroomError, Unavailable, WrongUse
from models.refusals import refusal
from models.results import Named
from streams.following import Gone

AGAIN = {429, 500, 502, 503, 504}
"""The statuses that say to come again."""


def document_of(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of an answer, an empty one if it is none."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def detail_of(response: httpx.Response) -> str:
    """The status and what it is about, for a person."""
    document = document_of(response)
    return f"{response.status_code} {document.get('detail') or response.reason_phrase}"


def checked(response: httpx.Response, asked: Named | None = None) -> Mapping[str, Any]:
    """The body of a good answer.

    Raises Refused: what was asked for is refused. Forbidden, Gone, WrongUse, Unavailable: as the status says.
    """
    status, document = response.status_code, document_of(response)
    if status < 300:
        return document
    detail = str(document.get("detail") or response.reason_phrase)
    error: DarkroomError | None = None
    if asked is not None and status in (402, 409, 422, 429):
        error = refusal(str(document.get("code")), asked.user_id, asked.request_id, detail, document)
    if error is None:
        kinds: Sequence[tuple[bool, DarkroomError]] = (
            (status in (401, 403), Forbidden(detail)),
            (status == 410, Gone(detail)),
            (400 <= status < 500, WrongUse(detail)),
        )
        error = next((one for fits, one in kinds if fits), Unavailable("the gateway", detail_of(response)))
    raise error


def retry_after_s(response: httpx.Response) -> float:
    """How long the gateway asks to wait, at most a minute; 0 when it does not."""
    text = response.headers.get("retry-after", "")
    return min(float(text), 60.0) if text.isdigit() else 0.0
