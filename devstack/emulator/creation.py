"""What a create call asks for, read and checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devstack.emulator.counts import request_named_in
from devstack.emulator.drawing.plan import size_of
from devstack.emulator.faults import Mark, marks_in_prompt
from devstack.emulator.predictions import WEBHOOK_EVENTS
from models.errors import WrongUse

OUTPUTS_MAX = 8
_IDENTITY_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Creation:
    """A checked create call. `identity` names the request for faults: user and request, else the prompt."""

    kind: str
    model: str
    version: str
    input: dict[str, Any]
    outputs: int
    size_px: tuple[int, int]
    video: bool
    destination: str
    webhook: str
    webhook_events: tuple[str, ...]
    marks: tuple[Mark, ...]
    identity: str


def creation_of(body: Any, kind: str, model: str, version: str, long_side_px: int, destination: str = "") -> Creation:
    """Reads a JSON body. Raises WrongUse saying which field cannot be used."""
    if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
        raise WrongUse("input: must be an object")
    given: dict[str, Any] = body["input"]
    prompt = given.get("prompt", "")
    if not isinstance(prompt, str):
        raise WrongUse("input.prompt: must be text")
    outputs = given.get("num_outputs", 1)
    if isinstance(outputs, bool) or not isinstance(outputs, int) or not 1 <= outputs <= OUTPUTS_MAX:
        raise WrongUse(f"input.num_outputs: must be from 1 to {OUTPUTS_MAX}")
    if not isinstance(given.get("seed", 0), int | None):
        raise WrongUse("input.seed: must be a whole number")
    try:
        size_px = size_of(str(given.get("aspect_ratio") or "1:1"), long_side_px)
    except ValueError as error:
        raise WrongUse(f"input.{error}") from None
    webhook, events = _webhook_of(body)
    video = "video" in f"{model} {version}".lower()
    return Creation(
        kind=kind,
        model=model,
        version=version,
        input=given,
        outputs=1 if video or kind == "trainings" else outputs,
        size_px=size_px,
        video=video,
        destination=destination,
        webhook=webhook,
        webhook_events=events,
        marks=marks_in_prompt(prompt if kind == "predictions" else _text_of_training(given)),
        identity=(request_named_in(webhook) or prompt)[:_IDENTITY_CHARACTERS_MAX],
    )


def _text_of_training(given: dict[str, Any]) -> str:
    """Trainings have no prompt: marks are looked for in the trigger word and in the pictures' addresses."""
    return f"{given.get('trigger_word', '')} {given.get('input_images', '')}"


def _webhook_of(body: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The URL and the events it wants; the older `webhook_completed` wants one."""
    url: Any = body.get("webhook") or ""
    events: tuple[str, ...] = WEBHOOK_EVENTS
    if not url and body.get("webhook_completed"):
        url, events = body["webhook_completed"], ("completed",)
    if url and (not isinstance(url, str) or not url.startswith(("http://", "https://"))):
        raise WrongUse("webhook: must be an http or https URL")
    wanted = body.get("webhook_events_filter")
    if wanted is not None:
        if not isinstance(wanted, list) or any(event not in WEBHOOK_EVENTS for event in wanted):
            raise WrongUse(f"webhook_events_filter: must be a list of {', '.join(WEBHOOK_EVENTS)}")
        events = tuple(wanted)
    return url, events
