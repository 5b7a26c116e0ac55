"""Predictions in memory, newest first in pages, the oldest dropped past a bound."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from devstack.emulator.predictions import Prediction
from models.errors import WrongUse

PAGE_SIZE = 100


class PredictionStore:
    """All runs of one kind. Sequence numbers are dense, so a page is a range of them."""

    def __init__(self, predictions_max: int, expiry_s: float) -> None:
        self._max = predictions_max
        self._expiry_s = expiry_s
        self._by_id: dict[str, Prediction] = {}
        self._by_sequence: dict[int, Prediction] = {}
        self._first = 0
        self._next = 0
        self._next_to_clear = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._by_id.values())

    def add(self, prediction: Prediction) -> None:
        prediction.sequence = self._next
        self._next += 1
        self._by_id[prediction.id] = prediction
        self._by_sequence[prediction.sequence] = prediction
        while len(self._by_id) > self._max:
            oldest = self._by_sequence.pop(self._first)
            del self._by_id[oldest.id]
            self._first += 1
        self._clear_expired(prediction.created_at)

    def get(self, prediction_id: str) -> Prediction | None:
        return self._by_id.get(prediction_id)

    def page(
        self, cursor: str | None, created_after: float | None = None, created_before: float | None = None
    ) -> tuple[list[Prediction], str | None, str | None]:
        """One page, newest first, with the cursors of the next (older) and previous (newer) page.

        Raises WrongUse: the cursor is not one of ours.
        """
        newest = self._next - 1 if cursor is None else _sequence_in(cursor)
        found: list[Prediction] = []
        sequence = min(newest, self._next - 1)
        while sequence >= self._first and len(found) < PAGE_SIZE:
            prediction = self._by_sequence[sequence]
            sequence -= 1
            if created_after is not None and prediction.created_at < created_after:
                sequence = self._first - 1
                break
            if created_before is None or prediction.created_at < created_before:
                found.append(prediction)
        older = _cursor_of(sequence) if sequence >= self._first else None
        newer = _cursor_of(min(newest + PAGE_SIZE, self._next - 1)) if newest < self._next - 1 else None
        return found, older, newer

    def _clear_expired(self, now: float) -> None:
        """Inputs and outputs go after the expiry, oldest first; a run that is not over yet waits its turn."""
        self._next_to_clear = max(self._next_to_clear, self._first)
        while self._next_to_clear < self._next:
            prediction = self._by_sequence[self._next_to_clear]
            if not prediction.is_past(self._expiry_s, now):
                return
            prediction.data_removed = True
            prediction.input = {}
            self._next_to_clear += 1


def _cursor_of(sequence: int) -> str:
    return base64.urlsafe_b64encode(f"p={sequence}".encode()).decode()


def _sequence_in(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor.encode()).decode()
        return int(text.removeprefix("p="))
    except (binascii.Error, ValueError):
        raise WrongUse("cursor: not one of this server's") from None
