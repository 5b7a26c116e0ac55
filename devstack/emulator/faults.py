"""What can go wrong at a provider, and who asked for it: a header, a mark in the prompt, or a rate with a seed.

Pure: the same seed, request and attempt meet the same faults in any order of arrival.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.errors import WrongUse

ALWAYS = 1 << 30
_MARK = re.compile(r"\[\[fault:([^\]]*)\]\]")
_ASKED = re.compile(r"^([a-z_]+)(?:\*(\d{1,9}))?(?:@(\d))?$")


class Stage(StrEnum):
    """Where in the life of a prediction a fault strikes."""

    CREATE = "create"
    RUN = "run"
    WEBHOOK = "webhook"
    FILE = "file"
    READ = "read"


class Fault(StrEnum):
    """Every fault by its public name; FAULTS says what each does."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    LOST_REQUEST = "lost_request"
    LOST_ANSWER = "lost_answer"
    BROKEN_ANSWER = "broken_answer"
    SLOW_ANSWER = "slow_answer"
    FAILED = "failed"
    ABORTED = "aborted"
    STUCK = "stuck"
    HALF_SET = "half_set"
    DUPLICATE_WEBHOOK = "duplicate_webhook"
    MISSING_WEBHOOK = "missing_webhook"
    LATE_WEBHOOK = "late_webhook"
    OUT_OF_ORDER_WEBHOOKS = "out_of_order_webhooks"
    FORGED_WEBHOOK = "forged_webhook"
    STALE_WEBHOOK = "stale_webhook"
    CORRUPT_IMAGE = "corrupt_image"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    NOT_AN_IMAGE = "not_an_image"
    HUGE_IMAGE = "huge_image"
    EXPIRED_OUTPUT = "expired_output"
    REDIRECTED_OUTPUT = "redirected_output"
    SLOW_DOWNLOAD = "slow_download"
    READ_ERROR = "read_error"


FAULTS: dict[Fault, tuple[Stage, str]] = {
    Fault.RATE_LIMITED: (Stage.CREATE, "429 with retry_after; nothing is created"),
    Fault.SERVER_ERROR: (Stage.CREATE, "500, 502 or 503; nothing is created"),
    Fault.REFUSED: (Stage.CREATE, "422, final; nothing is created"),
    Fault.LOST_REQUEST: (Stage.CREATE, "the connection closes without an answer; nothing is created"),
    Fault.LOST_ANSWER: (Stage.CREATE, "the connection closes without an answer; the prediction runs"),
    Fault.BROKEN_ANSWER: (Stage.CREATE, "502 on the way back; the prediction runs"),
    Fault.SLOW_ANSWER: (Stage.CREATE, "the prediction runs, the answer comes late"),
    Fault.FAILED: (Stage.RUN, "ends as failed"),
    Fault.ABORTED: (Stage.RUN, "ends as aborted, a status that clients may not know"),
    Fault.STUCK: (Stage.RUN, "never leaves starting until it is cancelled"),
    Fault.HALF_SET: (Stage.RUN, "succeeds with half of its outputs, rounded down"),
    Fault.DUPLICATE_WEBHOOK: (Stage.WEBHOOK, "each webhook comes twice"),
    Fault.MISSING_WEBHOOK: (Stage.WEBHOOK, "no webhook comes"),
    Fault.LATE_WEBHOOK: (Stage.WEBHOOK, "the completed webhook comes late"),
    Fault.OUT_OF_ORDER_WEBHOOKS: (Stage.WEBHOOK, "earlier webhooks come after the completed one"),
    Fault.FORGED_WEBHOOK: (Stage.WEBHOOK, "a badly signed webhook with a false status comes before each"),
    Fault.STALE_WEBHOOK: (Stage.WEBHOOK, "a copy signed an hour ago comes after each"),
    Fault.CORRUPT_IMAGE: (Stage.FILE, "the picture's file ends halfway"),
    Fault.WRONG_CONTENT_TYPE: (Stage.FILE, "the picture is declared as text/html"),
    Fault.NOT_AN_IMAGE: (Stage.FILE, "an HTML page is declared as image/jpeg"),
    Fault.HUGE_IMAGE: (Stage.FILE, "a small file that claims 40,000 by 40,000 pixels"),
    Fault.EXPIRED_OUTPUT: (Stage.FILE, "404, as after the expiry"),
    Fault.REDIRECTED_OUTPUT: (Stage.FILE, "302 to a private address"),
    Fault.SLOW_DOWNLOAD: (Stage.FILE, "half of the bytes, then a long pause"),
    Fault.READ_ERROR: (Stage.READ, "500 when a prediction is read or listed"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault asked for by name.

    `count` is how often: attempts for a create fault (1 unless given), downloads for a file fault (all unless
    given). `output` limits a file fault to one output.
    """

    fault: Fault
    count: int | None = None
    output: int | None = None


def marks_in_prompt(prompt: str) -> tuple[Mark, ...]:
    """Marks such as `[[fault:failed]]`, `[[fault:server_error*2]]`, `[[fault:corrupt_image@1]]`.

    Raises WrongUse for an unknown fault, so a mistyped mark never passes as a good request.
    """
    return tuple(_mark_of(asked) for asked in _MARK.findall(prompt)) if "[[fault:" in prompt else ()


def marks_in_header(value: str) -> tuple[Mark, ...]:
    """The header's comma-separated faults; each strikes this very request. Raises WrongUse."""
    marks = (_mark_of(asked.strip()) for asked in value.split(",") if asked.strip())
    return tuple(Mark(mark.fault, mark.count or ALWAYS, mark.output) for mark in marks)


def checked_rates(rates: Mapping[str, float]) -> dict[Fault, float]:
    """Rates by fault, zeros dropped. Raises WrongUse for an unknown name or a probability outside 0..1."""
    checked = {}
    for name, probability in rates.items():
        fault = _fault_named(name)
        if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise WrongUse(f"fault {name}: {probability!r} is not a probability from 0 to 1")
        if probability:
            checked[fault] = float(probability)
    return checked


def faults_for(
    stage: Stage,
    marks: Iterable[Mark],
    rates: Mapping[Fault, float],
    seed: int,
    identity: str,
    attempt: int = 1,
    output: int | None = None,
) -> frozenset[Fault]:
    """What strikes here. `attempt` counts from 1: creations of one request, or downloads of one output."""
    chosen = {
        mark.fault
        for mark in marks
        if FAULTS[mark.fault][0] is stage
        and (mark.output is None or output is None or mark.output == output)
        and attempt <= _times(mark, stage)
    }
    for fault, probability in rates.items():
        if FAULTS[fault][0] is stage and share_of(seed, fault, identity, attempt, output) < probability:
            chosen.add(fault)
    return frozenset(chosen)


def share_of(*parts: object) -> float:
    """A number in 0..1 that depends on the parts alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / (1 << 56)


def _times(mark: Mark, stage: Stage) -> int:
    if mark.count is not None:
        return mark.count
    return 1 if stage is Stage.CREATE else ALWAYS


def _mark_of(asked: str) -> Mark:
    match = _ASKED.match(asked)
    if not match:
        raise WrongUse(f"fault mark {asked!r} must read name, name*count or name@output")
    count, output = match[2], match[3]
    return Mark(_fault_named(match[1]), int(count) if count else None, int(output) if output else None)


def _fault_named(name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError:
        raise WrongUse(f"unknown fault {name!r}; known are {', '.join(Fault)}") from None
