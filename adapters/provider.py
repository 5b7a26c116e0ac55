"""The provider behind a small protocol: Replicate, through its own client, with errors mapped.

Bodies are taken as the JSON they are. The client's models would refuse a status that is new to them, and a run
whose answer cannot be decoded is a run that is paid for and lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from replicate import Client

from adapters.transport import AiohttpTransport
from models.errors import BadSetting, ProviderBusy, ProviderRefused, ProviderSilent
from models.provider_work import PREDICTIONS, TRAININGS, Work, prediction_id_of, provider_input

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64
KEEP_ALIVE_S = 3.0
PROBLEM_BYTES_MAX = 64 * 1024
PROBLEM_CHARACTERS_MAX = 500
WEBHOOK_EVENTS = ("start", "completed")
OUR_FAULT_RETRY_S = 30.0
THROTTLED_RETRY_S = 2.0

# Our account and not the request is at fault: a wrong token, no money left. Requests wait for a person.
_OUR_FAULT = frozenset({401, 402})
# A gateway gave up on a server that may be at work: whether a run was started is not known.
_UNKNOWN_OUTCOME = frozenset({504, 524})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.LocalProtocolError)


class Provider(Protocol):
    """What the services need of a provider. Bodies are the provider's own JSON objects.

    Runs are in one of two collections: PREDICTIONS, or TRAININGS, which answer in the same way.
    """

    async def create(self, work: Work, webhook: str) -> dict[str, Any]:
        """Start a run; never tried again here. Returns its body, which has a good `id`.

        Raises ProviderBusy: nothing was started. ProviderRefused: nothing ever will be. ProviderSilent: who knows.
        """

    async def get(self, prediction_id: str, collection: str = PREDICTIONS) -> dict[str, Any]:
        """A run's body. Raises ProviderBusy; ProviderRefused: there is no such run."""

    async def list_page(
        self, cursor: str | None, collection: str = PREDICTIONS
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Runs, newest first, and the cursor of the next (older) page. Raises ProviderBusy."""

    async def cancel(self, prediction_id: str, collection: str = PREDICTIONS) -> None:
        """Stop a run; one that is over stays as it is. Raises ProviderBusy; ProviderRefused: no such run."""

    async def close(self) -> None:
        """Disconnect."""


class ReplicateProvider:
    """Replicate by the `replicate` package. `base_url` empty is the real one; times in seconds.

    `training_destination` is the `owner/name` under which trained versions are kept.
    """

    def __init__(self, *, api_token: str, base_url: str, timeout_s: float, training_destination: str = "") -> None:
        if base_url and not base_url.startswith(("http://", "https://")):
            raise BadSetting("REPLICATE_BASE_URL", "must start with http:// or https://")
        self._timeout_s = timeout_s
        self._training_destination = training_destination
        self._client = Client(
            api_token=api_token or None,
            base_url=base_url or None,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            transport=_Transport(connections_max=CONNECTIONS_MAX, keep_alive_s=KEEP_ALIVE_S),
            trust_env=False,
        )

    async def create(self, work: Work, webhook: str) -> dict[str, Any]:
        """See Provider."""
        path, body = self._creation(work)
        body |= {
            "input": provider_input(work),
            "webhook": webhook,
            "webhook_events_filter": list(WEBHOOK_EVENTS),
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client._async_request("POST", path, json=body)
        except _Problem as problem:
            if problem.status in _UNKNOWN_OUTCOME:
                raise ProviderSilent(str(problem)) from None
            if problem.status >= 500 and problem.status != 503:
                # Something broke on the way of the answer, perhaps after the run had begun: only the list can tell.
                raise ProviderSilent(f"the provider failed, {problem}", is_over=True) from None
            if problem.status == 404 and work.collection == TRAININGS:
                raise ProviderBusy(
                    f"the trainer or its destination is not there, {problem}", OUR_FAULT_RETRY_S
                ) from None
            raise problem.as_error() from None
        except _NOT_SENT as error:
            raise ProviderBusy(f"the provider cannot be reached: {error!r}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise ProviderSilent(f"no answer to a creation: {error!r}") from error
        answer = _object_in(response)
        if answer is None or prediction_id_of(answer) is None:
            raise ProviderSilent("the answer to a creation cannot be read")
        return answer

    async def get(self, prediction_id: str, collection: str = PREDICTIONS) -> dict[str, Any]:
        """See Provider."""
        async with self._asking():
            response = await self._client._async_request("GET", f"/v1/{collection}/{quote(prediction_id, safe='')}")
        answer = _object_in(response)
        if answer is None:
            raise ProviderBusy("the answer about a prediction cannot be read")
        return answer

    async def list_page(
        self, cursor: str | None, collection: str = PREDICTIONS
    ) -> tuple[list[dict[str, Any]], str | None]:
        """See Provider."""
        async with self._asking():
            response = await self._client._async_request("GET", f"/v1/{collection}{'?' + cursor if cursor else ''}")
        answer = _object_in(response)
        results = answer.get("results") if answer is not None else None
        if answer is None or not isinstance(results, list):
            raise ProviderBusy("the list of predictions cannot be read")
        following = answer.get("next")
        # The path stays ours: a URL from a body must not choose where our token is sent.
        older = urlsplit(following).query if isinstance(following, str) else ""
        return [body for body in results if isinstance(body, dict)], older or None

    async def cancel(self, prediction_id: str, collection: str = PREDICTIONS) -> None:
        """See Provider."""
        async with self._asking():
            await self._client._async_request("POST", f"/v1/{collection}/{quote(prediction_id, safe='')}/cancel")

    async def close(self) -> None:
        """See Provider."""
        await self._client._async_client.aclose()

    def _creation(self, work: Work) -> tuple[str, dict[str, Any]]:
        """An official model has a path of its own, a training its trainer's; everything else goes by its version."""
        name, _, version = work.model.reference.rpartition(":")
        if work.collection == TRAININGS:
            path = f"/v1/models/{quote(name)}/versions/{quote(version, safe='')}/trainings"
            return path, {"destination": self._training_destination}
        if not name and "/" in version:
            return f"/v1/models/{quote(version)}/predictions", {}
        return "/v1/predictions", {"version": version}

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Errors of calls that may be made again without harm."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except _Problem as problem:
            raise problem.as_error() from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise ProviderBusy(f"the provider does not answer: {error!r}") from error


class _Problem(Exception):
    """An answer of 300 or above, with what it says of the reason and of when to come again."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status}: {detail}" if detail else str(status))
        self.status = status
        self.retry_after_s = retry_after_s

    def as_error(self) -> ProviderBusy | ProviderRefused:
        """The error for an answer that says that nothing was done."""
        if self.status in _OUR_FAULT:
            return ProviderBusy(f"the provider refuses our account, {self}", OUR_FAULT_RETRY_S)
        if self.status == 429:
            wait_s = THROTTLED_RETRY_S if self.retry_after_s is None else self.retry_after_s
            return ProviderBusy(f"the provider throttles, {self}", wait_s)
        if self.status in (408, 425) or not 400 <= self.status < 500:
            return ProviderBusy(f"the provider failed, {self}", self.retry_after_s)
        return ProviderRefused(str(self))


class _Transport(AiohttpTransport):
    """Raises on every answer but a success, below the client's own handling.

    The client retries GETs by itself for up to ten times and drops `retry_after`; ours to decide are both.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.status_code < 300:
            return response
        text = b""
        try:
            async for part in response.aiter_bytes():
                text += part
                if len(text) > PROBLEM_BYTES_MAX:
                    break
        finally:
            await response.aclose()
        raise _problem_in(response.status_code, response.headers, text[:PROBLEM_BYTES_MAX])


def _problem_in(status: int, headers: httpx.Headers, text: bytes) -> _Problem:
    try:
        body = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = None
    said = body if isinstance(body, dict) else {}
    detail = said.get("detail") or said.get("title") or ""
    wishes = (said.get("retry_after"), headers.get("retry-after"))
    return _Problem(status, str(detail)[:PROBLEM_CHARACTERS_MAX], next(filter(None, map(_seconds, wishes)), None))


def _seconds(wish: object) -> float | None:
    try:
        seconds = float(wish) if isinstance(wish, int | float | str) else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 86_400 else None


def _object_in(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return body if isinstance(body, dict) else None
