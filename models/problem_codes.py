"""Every problem that the gateway answers with: its code, its status, what it means and what to do. Pure.

One registry, from which docs/errors.md, the OpenAPI document and `/problems/{code}` are made. A code is stable: clients
decide by it. A new one is a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemKind:
    """One kind of problem. `title` is the same for all of a kind; `advice` says what a client does about it."""

    code: str
    status: int
    title: str
    advice: str

    @property
    def type_uri(self) -> str:
        """What identifies the kind: a reference relative to the gateway, which serves a description there."""
        return type_uri_of(self.code)


def type_uri_of(code: str) -> str:
    """The `type` of a problem document (RFC 9457) for a code."""
    return f"/problems/{code}"


PROBLEMS: Mapping[str, ProblemKind] = {
    kind.code: kind
    for kind in (
        ProblemKind(
            "bad_request", 400, "The request cannot be read", "Mend the request; sending it again does not help."
        ),
        ProblemKind(
            "bad_body", 400, "The body cannot be used", "Send UTF-8 JSON of the form that the route describes."
        ),
        ProblemKind(
            "bad_query", 400, "The query cannot be used", "Send `user` and `request` as the webhook's URL had them."
        ),
        ProblemKind(
            "unauthorized",
            401,
            "No good token",
            "Send `Authorization: Bearer TOKEN` with a token that is neither revoked nor expired.",
        ),
        ProblemKind(
            "bad_signature",
            401,
            "The webhook's signature is not good",
            "Sign with the secret that the gateway knows, and send within five minutes.",
        ),
        ProblemKind(
            "insufficient_credits",
            402,
            "Too few credits",
            "Grant `required - current` credits or more, then send the request again under the same id.",
        ),
        ProblemKind(
            "forbidden",
            403,
            "The token is not for this",
            "Use a token of the scope that the detail names, or of this user.",
        ),
        ProblemKind("not_found", 404, "There is no such thing", "Check the id, and whose it is (`user`)."),
        ProblemKind("method_not_allowed", 405, "The route has no such method", "Use a method of the header `Allow`."),
        ProblemKind("too_slow", 408, "The body took too long", "Send the whole body within the route's time."),
        ProblemKind(
            "ambiguous",
            409,
            "Several users have a request of this id",
            "Name the user: `?user=`.",
        ),
        ProblemKind(
            "already_ended",
            409,
            "The request has ended already",
            "Read it: `GET /v1/generations/{request_id}`. There is nothing left to cancel.",
        ),
        ProblemKind(
            "undecided",
            409,
            "The request is not decided yet",
            "Send the same again, `Retry-After` seconds later: only an admitted request can be cancelled.",
        ),
        ProblemKind(
            "conflict",
            409,
            "The id was used before with other content",
            "Take a new request id for other content.",
        ),
        ProblemKind(
            "position_gone",
            410,
            "What follows the position is not kept",
            "Follow anew without a position, and read what was missed where it is kept: `GET /v1/generations`.",
        ),
        ProblemKind("too_large", 413, "The body is too large", "Send at most as many bytes as the detail says."),
        ProblemKind(
            "invalid",
            422,
            "Something in the request is wrong",
            "Mend the fields that the detail, or `errors`, names; sending it again does not help.",
        ),
        ProblemKind(
            "rate_limited",
            429,
            "The user's limit is reached",
            "Send the request again under the same id, `Retry-After` seconds later.",
        ),
        ProblemKind(
            "too_many_requests",
            429,
            "Too many calls with this token",
            "Wait as many seconds as `Retry-After` says.",
        ),
        ProblemKind(
            "headers_too_large",
            431,
            "The request's line and headers are too large",
            "Send fewer or shorter headers, and a shorter address.",
        ),
        ProblemKind(
            "internal", 500, "Something went wrong on our side", "Try again once; then tell whoever runs the gateway."
        ),
        ProblemKind(
            "too_many_streams",
            503,
            "Too many follow events at this process",
            "Come again after `Retry-After` seconds, or to another copy of the gateway.",
        ),
        ProblemKind(
            "unavailable",
            503,
            "A server behind the gateway is away or busy",
            "Send the same again, `Retry-After` seconds later; doing so is safe.",
        ),
    )
}


def document() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors over HTTP",
        "",
        "Made from `models/problem_codes.py` by `python -m cli.documents`; not to be edited.",
        "",
        "Every error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `code` and `detail`, and",
        "for some codes more. `code` is stable, and `type` is `/problems/{code}`, a reference relative to the gateway,",
        "which answers there with what stands below. `detail` is one line for a person and may change.",
        "",
        "| code | status | means | what to do |",
        "|---|---|---|---|",
    ]
    for kind in sorted(PROBLEMS.values(), key=lambda kind: (kind.status, kind.code)):
        lines.append(f"| `{kind.code}` | {kind.status} | {kind.title} | {kind.advice} |")
    return "\n".join(lines) + "\n"
