"""Reading what producers send: a request, a request that is wrong, or bytes that nobody can answer.

The wire is bytes and JSON; every field is checked here, once. A record with a good id and user but bad content
can be answered (`MalformedRequest`); a record from which neither can be read cannot (`Unreadable`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeGuard

import msgspec

from models.operations import OPERATIONS, Kind, Operation

VALUE_BYTES_MAX = 64 * 1024
PROMPT_CHARACTERS_MAX = 4000
ID_PATTERN = r"^[A-Za-z0-9._:\-]{1,128}\Z"
ASPECT_RATIO_PATTERN = r"^[1-9][0-9]{0,2}:[1-9][0-9]{0,2}\Z"
URL_PATTERN = r"^https?://[!-~]{1,2000}\Z"
TRIGGER_WORD_PATTERN = r"^[A-Za-z0-9_\-]{1,64}\Z"
TRAINING_IMAGES_MIN = 5
TRAINING_IMAGES_MAX = 30

# What a pattern means, in words for a person.
_FORMS = {
    ID_PATTERN: "must be 1 to 128 of A-Z a-z 0-9 . _ : -",
    ASPECT_RATIO_PATTERN: "must be a ratio such as 4:5",
    URL_PATTERN: "must be an http or https URL of at most 2,000 characters",
    TRIGGER_WORD_PATTERN: "must be 1 to 64 of A-Z a-z 0-9 _ -",
}
_ID = re.compile(ID_PATTERN)
_FORBIDDEN = re.compile(r"[^A-Za-z0-9._:\-]")
_SURROGATE = re.compile("[\ud800-\udfff]")

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
# The same with its characters left to be checked: two patterns a request would take longer than the decoding.
_IdLength = Annotated[str, msgspec.Meta(min_length=1, max_length=128, extra_json_schema={"pattern": ID_PATTERN})]
OperationName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(OPERATIONS)})]
Url = Annotated[str, msgspec.Meta(pattern=URL_PATTERN)]


class Options(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a producer may choose: `image_url` begins a video, `images` and `trigger_word` make a training."""

    num_outputs: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    aspect_ratio: Annotated[str, msgspec.Meta(pattern=ASPECT_RATIO_PATTERN)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    image_url: Url | None = None
    images: Annotated[tuple[Url, ...], msgspec.Meta(max_length=TRAINING_IMAGES_MAX)] | None = None
    trigger_word: Annotated[str, msgspec.Meta(pattern=TRIGGER_WORD_PATTERN)] | None = None


_DEFAULT_OPTIONS = Options()


class Context(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where in the product the request belongs."""

    feed_id: Id | None = None
    position: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A well-formed request: `generations.requested.v1`."""

    request_id: _IdLength
    user_id: _IdLength
    operation: OperationName
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_CHARACTERS_MAX)]
    options: Options = _DEFAULT_OPTIONS
    context: Context | None = None


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one field, in words for the producer."""

    field: str
    problem: str


class MalformedRequest(msgspec.Struct, frozen=True):
    """Answerable: the id and the user can be read, something else is wrong."""

    request_id: str
    user_id: str
    operation: str
    errors: list[FieldError]


class Unreadable(msgspec.Struct, frozen=True):
    """Not answerable: goes to the dead letters. `reason` is a stable code, `error` a line for a person."""

    reason: str
    error: str


_request_decoder = msgspec.json.Decoder(Request)
_encode = msgspec.json.Encoder().encode
_NO_OPTIONS = b"{}"


def encode_options(options: Options) -> bytes:
    """Options as canonical JSON; almost every request has none."""
    return _NO_OPTIONS if options is _DEFAULT_OPTIONS or options == _DEFAULT_OPTIONS else _encode(options)


def encode_context(context: Context | None) -> bytes | None:
    """Context as canonical JSON, if there is any."""
    return None if context is None else _encode(context)


def read_request(key: bytes | None, value: bytes | None) -> Request | MalformedRequest | Unreadable:
    """Read one record of generations.requested.v1. Never raises."""
    if value is None:
        return Unreadable("empty", "the record has no value")
    if len(value) > VALUE_BYTES_MAX:
        return _explain(key, value)
    try:
        request = _request_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _explain(key, value)
    if _FORBIDDEN.search(request.request_id + request.user_id):
        return _explain(key, value)
    operation = OPERATIONS.get(request.operation)
    if operation is None or key != request.user_id.encode() or not _is_storable(request.prompt):
        return _explain(key, value)
    if request.options is not _DEFAULT_OPTIONS and any(_wrong_options(operation, request.options)):
        return _explain(key, value)
    if operation.kind is not Kind.IMAGES and any(_wrong_options(operation, request.options)):
        return _explain(key, value)
    return request


def read_object(value: bytes | None) -> dict[str, Any] | Unreadable:
    """The JSON object in a record's value, or why there is none."""
    if value is None:
        return Unreadable("empty", "the record has no value")
    try:
        body = msgspec.json.decode(value.decode())
    except UnicodeDecodeError as error:
        return Unreadable("bad_utf8", f"the value is not UTF-8: {error.reason} at byte {error.start}")
    except RecursionError:
        return Unreadable("bad_json", "the value is nested too deeply")
    except msgspec.MsgspecError as error:
        return Unreadable("bad_json", f"the value is not JSON: {error}")
    if not isinstance(body, dict):
        return Unreadable("not_an_object", "the value is JSON but not an object")
    return body


def _explain(key: bytes | None, value: bytes) -> MalformedRequest | Unreadable:
    body = read_object(value)
    if isinstance(body, Unreadable):
        return body
    request_id, user_id = body.get("request_id"), body.get("user_id")
    if not is_id(request_id) or not is_id(user_id):
        return Unreadable("no_ids", "request_id and user_id must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    operation = body.get("operation")
    errors = list(_field_errors(key, value, body)) or [_UNKNOWN_ERROR]
    return MalformedRequest(request_id, user_id, operation[:64] if isinstance(operation, str) else "", errors)


_UNKNOWN_ERROR = FieldError("", "is not a generation request")


def _field_errors(key: bytes | None, value: bytes, body: dict[str, Any]) -> Iterator[FieldError]:
    if len(value) > VALUE_BYTES_MAX:
        yield FieldError("", f"must be at most {VALUE_BYTES_MAX} bytes")
        return
    if key != body["user_id"].encode():
        yield FieldError("key", "the record's key must be the user_id: limits are exact only within one partition")
    if not isinstance(body.get("operation"), str) or body["operation"] not in OPERATIONS:
        yield FieldError("operation", "must be one of " + ", ".join(OPERATIONS))
    for field in ("prompt", "options", "context"):
        if field not in body:
            if field == "prompt":
                yield FieldError(field, "is required")
            continue
        expected = next(known.type for known in msgspec.structs.fields(Request) if known.name == field)
        try:
            msgspec.convert(body[field], expected)
        except (msgspec.MsgspecError, RecursionError) as error:
            message, _, place = str(error).partition(" - at `$")
            suffix = place.rstrip("`")
            said = next((text for pattern, text in _FORMS.items() if repr(pattern) in message), message)
            yield FieldError(field + (suffix if suffix.startswith((".", "[")) else ""), said)
        else:
            if field == "prompt" and not _is_storable(body[field]):
                yield FieldError(field, "must not contain NUL or lone surrogates")
    yield from _option_errors(body)


def _option_errors(body: dict[str, Any]) -> Iterator[FieldError]:
    operation = OPERATIONS.get(body["operation"]) if isinstance(body.get("operation"), str) else None
    if operation is None:
        return
    try:
        options = msgspec.convert(body.get("options", {}), Options)
    except (msgspec.MsgspecError, RecursionError):
        return
    yield from _wrong_options(operation, options)


def _wrong_options(operation: Operation, options: Options) -> Iterator[FieldError]:
    """What this operation cannot be done without, and what it cannot do."""
    kind, most = operation.kind, max(1, operation.outputs)
    if options.num_outputs is not None and options.num_outputs > most:
        yield FieldError("options.num_outputs", f"must be at most {most} for {operation.name}")
    if kind is Kind.VIDEO and options.image_url is None:
        yield FieldError("options.image_url", "is required: the picture that the video begins with")
    if kind is Kind.TRAINING and len(options.images or ()) < TRAINING_IMAGES_MIN:
        yield FieldError("options.images", f"at least {TRAINING_IMAGES_MIN} pictures are required")


def _is_storable(text: str) -> bool:
    """PostgreSQL text holds neither NUL nor lone surrogates; one such prompt would block its whole batch."""
    return "\0" not in text and (text.isascii() or not _SURROGATE.search(text))


def is_id(value: object) -> TypeGuard[str]:
    """Whether this may be an id: 1 to 128 of A-Z a-z 0-9 . _ : -"""
    return isinstance(value, str) and _ID.match(value) is not None
