"""What the routes answer with, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-31T08:15:30.123Z"])]
"""RFC 3339, UTC, with milliseconds."""

GenerationState = Literal[
    "undecided",
    "rejected",
    "admitted",
    "queued",
    "submitting",
    "running",
    "storing",
    "completed",
    "failed",
    "cancelled",
]


class FieldProblem(BaseModel):
    """One thing that is wrong with one field."""

    field: str
    problem: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457). `code` is stable and one of docs/errors.md; `detail` is one line for a person."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="`/problems/{code}`, relative to the gateway.", examples=["/problems/not_found"])
    title: str
    status: int = Field(ge=400, le=599)
    code: str = Field(examples=["not_found"])
    detail: str
    errors: list[FieldProblem] | None = Field(
        default=None, description="With `invalid`: what is wrong, field by field."
    )


class ProblemMeaning(BaseModel):
    """What a problem's type means."""

    type: str = Field(examples=["/problems/ambiguous"])
    code: str
    status: int
    title: str
    what_to_do: str


class Decision(BaseModel):
    """What became of a request so far. The figures are there once it is admitted."""

    request_id: str = Field(examples=["r-17"])
    user_id: str = Field(examples=["ada"])
    operation: str = Field(examples=["maya.image"])
    state: Literal["admitted", "undecided"]
    cost: int | None = Field(default=None, description="Credits that were taken.", examples=[1])
    balance: int | None = Field(default=None, description="Credits left.", examples=[99])
    version: int | None = Field(default=None, description="Of the balance: higher is newer.", examples=[2])
    admitted_at: str | None = Field(default=None, examples=["2026-01-31T08:15:30.123Z"])


class GrantTaken(BaseModel):
    """A grant that is on its way to the books."""

    grant_id: str
    user_id: str
    amount: int
    kind: str
    partition: int
    offset: int


class Output(BaseModel):
    """A stored picture or video. A video's `thumbnail_url` is empty; its sides are 0 where its file does not say."""

    image_id: str
    output_index: int
    url: str
    thumbnail_url: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str


class Model(BaseModel):
    """What a training has made."""

    version: str
    trigger_word: str


class Generation(BaseModel):
    """A request and what became of it. What does not apply to its state is left out.

    `rejected` and `undecided` requests were not admitted; they have none of the times. A rejected one says why in
    `reason` and `message`, with the further fields of generations.rejected.v1. `images` are those of a completed
    request that are still in the gallery.
    """

    model_config = ConfigDict(extra="ignore")

    request_id: str = Field(examples=["request-5f0c"])
    user_id: str = Field(examples=["ada"])
    state: GenerationState
    operation: str | None = Field(default=None, examples=["maya.image"])
    cost: int | None = Field(default=None, description="Credits.")
    refunded: int | None = Field(default=None, description="Credits of the cost that were given back.")
    prediction_id: str | None = None
    admitted_at: Time | None = None
    queued_at: Time | None = None
    submitted_at: Time | None = None
    running_at: Time | None = None
    storing_at: Time | None = None
    finished_at: Time | None = None
    cancel_requested_at: Time | None = None
    images: list[Output] = []
    model: Model | None = Field(default=None, description="A training's, as long as it is the user's newest.")
    reason: str | None = Field(default=None, examples=["rate_limited", "provider_failed"])
    message: str | None = Field(default=None, description="A sentence that a product can show.")
    policy: str | None = None
    limit: int | None = None
    window_s: int | None = None
    remaining: int | None = None
    retry_after_s: float | None = None
    max_in_flight: int | None = None
    required: int | None = None
    current: int | None = None
    errors: list[FieldProblem] | None = None


class Cancelling(BaseModel):
    """A wish to stop that has been taken. `state` is that of the request when it was asked for."""

    request_id: str
    user_id: str
    state: GenerationState


class TimelineEvent(BaseModel):
    """An event on Kafka. `ms` counts from the first moment of the timeline, `at` is broker time."""

    ms: int
    at: Time
    topic: str
    partition: int
    offset: int
    ce_id: str
    body: dict[str, Any]


class TimelineMoment(BaseModel):
    """One line: when, what kind of thing, where it is written, and what it says."""

    ms: int
    at: Time
    kind: str = Field(examples=["event", "row", "ledger", "provider"])
    where: str
    says: str


class Timeline(BaseModel):
    """Everything that is known of a request, as `darkroom trace --json` prints it.

    `complete` is false when there was no time to look at all events. `ledger`, `images` and `row` are database rows.
    """

    request_id: str
    complete: bool
    row: dict[str, Any] | None
    events: list[TimelineEvent]
    ledger: list[dict[str, Any]]
    images: list[dict[str, Any]]
    timeline: list[TimelineMoment]


class Credits(BaseModel):
    """A user's balance. `age_s` is how long ago Postgres or an event said so. Never authorise spending with it."""

    user_id: str = Field(examples=["ada"])
    balance: int
    version: int = Field(description="How often the balance has changed.")
    unlimited: bool
    age_s: float
    from_cache: bool


class LedgerEntry(BaseModel):
    """One movement of credits. A charge is below 0; `balance_after` is the balance that it left."""

    entry_id: int
    amount: int
    kind: str = Field(examples=["charge", "refund", "purchase"])
    reference_id: str = Field(examples=["ada/request-5f0c"])
    balance_after: int
    version: int
    created_at: Time


class LedgerEntries(BaseModel):
    """A page, newest entry first; `next_cursor` leads to older ones, null when there are none."""

    entries: list[LedgerEntry]
    next_cursor: str | None


class GalleryEntry(BaseModel):
    """A picture or video in a user's gallery."""

    image_id: str
    request_id: str
    operation: str
    source: str
    prompt: str
    url: str
    thumbnail_url: str
    width: int
    height: int
    content_type: str
    bytes: int
    is_favorite: bool
    created_at: Time


class GalleryEntries(BaseModel):
    """A page, newest first; `next_cursor` leads to older ones, null when there are none."""

    items: list[GalleryEntry]
    next_cursor: str | None


class FavoriteWish(BaseModel):
    """What it shall be; left out, the opposite of what it is."""

    favorite: bool | None = None


class Favorite(BaseModel):
    """Whether it is a favourite now."""

    image_id: str
    is_favorite: bool
