"""The real client against the emulator: every way a call can end becomes the right error, and nothing runs twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from adapters.provider import ReplicateProvider
from devstack.emulator.server import running_emulator
from models.errors import BadSetting, ProviderBusy, ProviderRefused, ProviderSilent
from models.provider_work import Model, Work
from models.requests import Options

from .conftest import QUICK
from .world import until

_numbers = itertools.count()
NOWHERE = "http://127.0.0.1:9/v1/webhooks/replicate?user={}&request={}"


@pytest.fixture(scope="module")
def emulator_url() -> Iterator[str]:
    """One for all: every test asks for a request of its own."""
    with running_emulator(QUICK) as url:
        yield url


@pytest.fixture
async def provider(emulator_url: str) -> AsyncIterator[ReplicateProvider]:
    made = ReplicateProvider(api_token="r8_test", base_url=emulator_url, timeout_s=0.6)
    yield made
    await made.close()


def work(fault: str = "", model: str = "emulator/flux") -> Work:
    number = next(_numbers)
    mark = f" [[fault:{fault}]]" if fault else ""
    return Work("adapter", f"r{number}", "maya.image", f"a lake {number}{mark}", Options(), Model(model))


async def create(provider: ReplicateProvider, asked: Work) -> dict[str, Any]:
    return await provider.create(asked, NOWHERE.format(*asked.identity))


async def runs_of(emulator_url: str, asked: Work) -> int:
    async with httpx.AsyncClient() as client:
        counts = (await client.get(f"{emulator_url}/emulator/counts")).json()
    return len(counts["requests"].get("/".join(asked.identity), []))


@pytest.mark.parametrize("model", ["emulator/flux", f"emulator/flux:{'a' * 64}", "b" * 64])
async def test_a_run_is_created_by_model_or_by_version(provider: ReplicateProvider, model: str) -> None:
    asked = work(model=model)
    body = await create(provider, asked)
    assert body["status"] == "starting"
    assert body["input"]["prompt"] == asked.prompt
    assert body["version"] == (model.rpartition(":")[2] if "/" not in model or ":" in model else "hidden")
    assert (await provider.get(body["id"]))["id"] == body["id"]


async def test_a_throttled_creation_says_when_to_come_again(provider: ReplicateProvider, emulator_url: str) -> None:
    asked = work("rate_limited")
    with pytest.raises(ProviderBusy) as busy:
        await create(provider, asked)
    assert busy.value.retry_after_s == 1.0
    assert await runs_of(emulator_url, asked) == 0


async def test_an_error_of_the_provider_s_own_is_not_tried_again_here(
    provider: ReplicateProvider, emulator_url: str
) -> None:
    asked = work("server_error")
    with pytest.raises((ProviderBusy, ProviderSilent)):
        await create(provider, asked)
    assert await runs_of(emulator_url, asked) == 0


async def test_a_refusal_is_final_and_says_why(provider: ReplicateProvider) -> None:
    with pytest.raises(ProviderRefused, match="422: The input was refused by the model"):
        await create(provider, work("refused"))


@pytest.mark.parametrize(
    ("fault", "runs"), [("lost_answer", 1), ("lost_request", 0), ("slow_answer", 1), ("broken_answer", 1)]
)
async def test_a_lost_answer_is_silence_and_the_client_does_not_ask_twice(
    provider: ReplicateProvider, emulator_url: str, fault: str, runs: int
) -> None:
    asked = work(fault)
    with pytest.raises(ProviderSilent):
        await create(provider, asked)
    assert await runs_of(emulator_url, asked) == runs


async def test_a_provider_that_refuses_connections_has_started_nothing() -> None:
    provider = ReplicateProvider(api_token="", base_url="http://127.0.0.1:9", timeout_s=0.6)
    with pytest.raises(ProviderBusy):
        await create(provider, work())
    await provider.close()


async def test_a_status_that_the_client_does_not_know_can_be_read(provider: ReplicateProvider) -> None:
    prediction_id = (await create(provider, work("aborted")))["id"]

    async def is_aborted() -> bool:
        return bool((await provider.get(prediction_id))["status"] == "aborted")

    await until(is_aborted, "the run is aborted")


async def test_a_run_that_is_not_there_is_refused(provider: ReplicateProvider) -> None:
    with pytest.raises(ProviderRefused, match="404"):
        await provider.get("no/such?run")


async def test_a_cancelled_run_is_canceled(provider: ReplicateProvider) -> None:
    prediction_id = (await create(provider, work("stuck")))["id"]
    await provider.cancel(prediction_id)
    assert (await provider.get(prediction_id))["status"] == "canceled"


async def test_the_list_is_read_page_by_page(provider: ReplicateProvider) -> None:
    created = {(await create(provider, work()))["id"] for _ in range(101)}
    first, cursor = await provider.list_page(None)
    second, _ = await provider.list_page(cursor)
    assert len(first) == 100
    assert created <= {body["id"] for body in first + second}


@pytest.fixture(scope="module")
def guarded_url() -> Iterator[str]:
    """An emulator that wants a token, and whose reads always fail."""
    with running_emulator(replace(QUICK, api_token="right", fault_rates={"read_error": 1.0})) as url:
        yield url


async def test_a_wrong_token_makes_requests_wait_for_a_person(guarded_url: str) -> None:
    provider = ReplicateProvider(api_token="wrong", base_url=guarded_url, timeout_s=0.6)
    with pytest.raises(ProviderBusy, match="refuses our account") as busy:
        await create(provider, work())
    assert busy.value.retry_after_s == 30.0
    assert "wrong" not in str(busy.value)
    await provider.close()


async def test_a_failed_read_is_busy_at_once(guarded_url: str) -> None:
    provider = ReplicateProvider(api_token="right", base_url=guarded_url, timeout_s=5.0)
    async with asyncio.timeout(1.0):
        with pytest.raises(ProviderBusy):
            await provider.get("p1")
        with pytest.raises(ProviderBusy):
            await provider.list_page(None)
    await provider.close()


async def test_an_answer_that_cannot_be_read_is_silence_for_a_creation() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 8\r\n\r\n[broken,")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    provider = ReplicateProvider(api_token="t", base_url=url, timeout_s=0.6)
    with pytest.raises(ProviderSilent):
        await create(provider, work())
    with pytest.raises(ProviderBusy):
        await provider.get("p1")
    await provider.close()
    server.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(504, ProviderSilent), (500, ProviderSilent), (502, ProviderSilent), (503, ProviderBusy), (402, ProviderBusy)],
)
async def test_an_answer_that_broke_on_its_way_may_have_started_a_run(status: int, error: type[Exception]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    provider = ReplicateProvider(api_token="t", base_url=url, timeout_s=0.6)
    with pytest.raises(error):
        await create(provider, work())
    await provider.close()
    server.close()


def test_a_base_url_that_is_none_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="REPLICATE_BASE_URL"):
        ReplicateProvider(api_token="t", base_url="localhost:8401", timeout_s=1.0)
