"""Work at the provider: what to ask for, what an answer means, and how a lost run is known again.

The provider has no idempotency key. So every request asks for something that only it would ask for: its webhook
URL names it, and its seed (a training's trigger word) is derived from its ids unless the user chose one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from models.facts import PredictionUpdated, shortened_prediction
from models.lifecycle import Event, event_of_status
from models.operations import OPERATIONS, Kind, Operation, kind_of
from models.requests import Options, is_id
from models.training import trigger_word_of

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
RETRY_AFTER_MAX_S = 300.0
CLOCK_SKEW_MAX_S = 30.0
STATUS_CHARACTERS_MAX = 64

PREDICTIONS = "predictions"
TRAININGS = "trainings"


class Model(msgspec.Struct, frozen=True):
    """The model that a run is asked of; a training's is its trainer.

    `reference` is `owner/name` (an official model), `owner/name:version` or a version alone.
    """

    reference: str
    trigger_word: str = ""


class Models(msgspec.Struct, frozen=True):
    """What is asked for each kind of thing: `images` of users without a model of their own. References as above."""

    images: str
    video: str
    trainer: str

    def reference_for(self, kind: Kind) -> str:
        """Whose work this kind is."""
        return {Kind.IMAGES: self.images, Kind.VIDEO: self.video, Kind.TRAINING: self.trainer}[kind]


class Work(msgspec.Struct, frozen=True):
    """A request on its way through the provider.

    `attempt` counts from 1; `submitted_at` is in seconds since the epoch; `age_s` counts from queueing; `is_cancelled`
    says that the user does not want it any more; `traceparent` is the trace that the request came with.
    """

    user_id: str
    request_id: str
    operation: str
    prompt: str
    options: Options
    model: Model
    state: str = "submitting"
    attempt: int = 1
    submitted_at: float = 0.0
    age_s: float = 0.0
    prediction_id: str | None = None
    is_cancelled: bool = False
    traceparent: str | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """What names the request: (user_id, request_id)."""
        return (self.user_id, self.request_id)

    @property
    def kind(self) -> Kind:
        """What its run makes."""
        return kind_of(self.operation)

    @property
    def collection(self) -> str:
        """Where the provider keeps its run: PREDICTIONS or TRAININGS."""
        return collection_of(self.operation)


def collection_of(operation_name: str) -> str:
    """Where the provider keeps this operation's runs."""
    return TRAININGS if kind_of(operation_name) is Kind.TRAINING else PREDICTIONS


def seed_of(work: Work) -> int:
    """The user's seed, or one that is the same at every attempt and differs between requests."""
    if work.options.seed is not None:
        return work.options.seed
    digest = hashlib.sha256(f"{work.user_id}/{work.request_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def outputs_expected(operation_name: str, options: Options) -> int:
    """How many pictures are due: never more than the operation's price covers; 0 for an operation unknown here."""
    operation = OPERATIONS.get(operation_name)
    if operation is None:
        return 0
    return min(options.num_outputs or operation.outputs, operation.outputs)


def full_prompt(template: str, trigger_word: str, prompt: str) -> str:
    """The prompt as the model wants it: the trigger word comes first unless it is there already."""
    if "{trigger}" in template:
        return template.format(trigger=trigger_word, prompt=prompt).strip()
    text = template.format(prompt=prompt)
    is_there = not trigger_word or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", text)
    return text if is_there else f"{trigger_word} {text}"


def provider_input(work: Work) -> dict[str, Any]:
    """The model's input: the same at every attempt."""
    operation = OPERATIONS[work.operation]
    match operation.kind:
        case Kind.TRAINING:
            return {
                "input_images": list(work.options.images or ()),
                "trigger_word": trigger_word_of(work.user_id, work.request_id, work.options),
            }
        case Kind.VIDEO:
            return {"prompt": _prompt_of(work, operation), "image": work.options.image_url, "seed": seed_of(work)}
    return {
        "prompt": _prompt_of(work, operation),
        "num_outputs": outputs_expected(work.operation, work.options),
        "aspect_ratio": work.options.aspect_ratio or operation.aspect_ratio,
        "seed": seed_of(work),
        "output_format": "jpg",
    }


def _prompt_of(work: Work, operation: Operation) -> str:
    return full_prompt(operation.prompt_template, work.model.trigger_word, work.prompt)


def webhook_url(base_url: str, work: Work) -> str:
    """Where the provider reports this request's run."""
    return f"{base_url}/v1/webhooks/replicate?" + urlencode({"user": work.user_id, "request": work.request_id})


def updated(work: Work, body: Mapping[str, Any], source: str, status: str | None = None) -> PredictionUpdated:
    """The fact behind a body of the provider's; `status` stands in when the body has none that can be used."""
    said = body.get("status")
    return PredictionUpdated(
        request_id=work.request_id,
        user_id=work.user_id,
        status=status or (said[:STATUS_CHARACTERS_MAX] if isinstance(said, str) and said else "unknown"),
        source=source,  # type: ignore[arg-type]
        prediction_id=prediction_id_of(body) or work.prediction_id,
        prediction=shortened_prediction(dict(body)),
    )


def started(work: Work, body: Mapping[str, Any]) -> PredictionUpdated:
    """What the answer to a creation means. Created is created, even in a status that is new to us."""
    said = body.get("status")
    known = isinstance(said, str) and event_of_status(said) is not None
    return updated(work, body, "dispatcher", None if known else "starting")


def rejected(work: Work, problem: str) -> PredictionUpdated:
    """The provider has refused for good."""
    return updated(work, {"error": problem}, "dispatcher", "rejected")


def given_up(work: Work) -> PredictionUpdated:
    """Nobody waits for the request any more: its user has cancelled it, or its time is up."""
    return updated(work, {}, "deadline", "canceled" if work.is_cancelled else "expired")


def prediction_id_of(body: Mapping[str, Any]) -> str | None:
    """The id in a body of the provider's, if it is one."""
    found = body.get("id")
    return found if is_id(found) else None


_OVER = frozenset({Event.SUCCEEDED, Event.PROVIDER_FAILED, Event.CANCELED})


def is_over(status: object) -> bool:
    """Whether a run in this status will not change any more."""
    return isinstance(status, str) and event_of_status(status) in _OVER


def tells_nothing_new(state: str, status: object) -> bool:
    """Whether a polled status is what the row says already."""
    return state == "running" and status in ("starting", "processing")


def retry_delay_s(attempt: int, chance: float, retry_after_s: float | None = None) -> float:
    """How long to wait before trying again: the provider's wish, or a backoff; jittered by `chance` in 0..1."""
    if retry_after_s is not None:
        return min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S) + chance
    backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(max(attempt, 1) - 1, 16))
    return backoff_s * (0.5 + chance / 2)


def is_unmistakable(work: Work) -> bool:
    """Whether no other request can ask for the same: what tells it apart is not of the user's choice."""
    return (work.options.trigger_word if work.kind is Kind.TRAINING else work.options.seed) is None


def adopted(
    lost: Sequence[Work], listed: Iterable[Mapping[str, Any]], taken: Collection[str], rivals: Collection[Work]
) -> tuple[dict[tuple[str, str], Mapping[str, Any]], set[tuple[str, str]]]:
    """Find the runs of lost requests in the provider's list: (body by identity, identities that must wait).

    All of one collection. `taken` are prediction ids that belong to a request already; `rivals` are all requests that
    are being submitted and have no prediction id yet. A body that names its webhook is decisive. Otherwise the input
    must match, which is decisive where it is derived from the ids. Where a user chose it, another request may have
    asked for exactly the same, and then neither adopting nor starting again is safe: such requests wait for their
    webhook.
    """
    bodies = [body for body in listed if (found := prediction_id_of(body)) is not None and found not in taken]
    runs: dict[tuple[str, str], Mapping[str, Any]] = {}
    unclear: set[tuple[str, str]] = set()
    for work in lost:
        wanted = _telling(work)
        matching = [body for body in bodies if _is_run_of(body, work, wanted)]
        if not matching:
            continue
        named = [body for body in matching if _names(body) == work.identity]
        if named or is_unmistakable(work):
            runs[work.identity] = (named or matching)[0]
        elif len(matching) == 1 and not _has_rival(work, wanted, rivals):
            runs[work.identity] = matching[0]
        else:
            unclear.add(work.identity)
    return runs, unclear


_TELLING = {
    Kind.IMAGES: ("seed", "prompt"),
    Kind.VIDEO: ("seed", "prompt", "image"),
    Kind.TRAINING: ("trigger_word", "input_images"),
}


def _telling(work: Work) -> dict[str, Any]:
    """The parts of the input that tell a request from others."""
    wanted = provider_input(work)
    return {name: wanted[name] for name in _TELLING[work.kind]}


def _is_run_of(body: Mapping[str, Any], work: Work, wanted: Mapping[str, Any]) -> bool:
    named = _names(body)
    if named is not None:
        return named == work.identity
    given = body.get("input")
    if not isinstance(given, dict) or any(given.get(name) != value for name, value in wanted.items()):
        return False
    created_at = seconds_of(body.get("created_at"))
    return created_at is None or created_at >= work.submitted_at - CLOCK_SKEW_MAX_S


def _names(body: Mapping[str, Any]) -> tuple[str, str] | None:
    url = body.get("webhook")
    if not isinstance(url, str):
        return None
    try:
        query = parse_qs(urlsplit(url).query)
    except ValueError:  # somebody else's run with a webhook that is no URL
        return None
    user, request = query.get("user", [""])[0], query.get("request", [""])[0]
    return (user, request) if is_id(user) and is_id(request) else None


def _has_rival(work: Work, wanted: Mapping[str, Any], rivals: Collection[Work]) -> bool:
    return any(rival.identity != work.identity and _telling(rival) == wanted for rival in rivals)


def seconds_of(moment: object) -> float | None:
    """An RFC 3339 time as seconds since the epoch; None if it cannot be read."""
    try:
        return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else None
    except ValueError:
        return None
