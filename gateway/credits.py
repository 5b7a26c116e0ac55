"""A user's balance and ledger."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from adapters.credit_reads import CreditReads
from adapters.postgres import Pool
from adapters.reads import read_entries
from gateway.access import Caller
from gateway.bounds import READ_TIMEOUT_S, within
from gateway.parameters import User
from gateway.problems import AT_EVERY_DOOR, problems
from gateway.schemas import Credits, LedgerEntries
from models.ledger_pages import PAGE_DEFAULT, PAGE_MAX, version_of
from models.timeline_document import plain_row

router = APIRouter(tags=["credits"])


@router.get(
    "/v1/credits",
    summary="A user's balance",
    responses={
        200: {"headers": {"Age": {"schema": {"type": "integer"}, "description": "`age_s` in whole seconds."}}},
        **problems(*AT_EVERY_DOOR),
    },
)
async def get_credits(request: Request, response: Response, caller: Caller, user: User) -> Credits:
    """Usually from the cache, at most some seconds old. A user that nobody has heard of has 0 credits, version 0."""
    user_id = caller.reads_one(user)
    credit_reads: CreditReads = request.app.state.credits
    async with within(READ_TIMEOUT_S, "the balance"):
        reading = await credit_reads.read(user_id)
    response.headers["age"] = str(max(0, int(reading.age_s)))
    return Credits.model_validate(reading._asdict())


@router.get("/v1/credits/ledger", summary="A user's ledger, newest entry first", responses=problems(*AT_EVERY_DOOR))
async def get_ledger(
    request: Request,
    caller: Caller,
    user: User,
    cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> LedgerEntries:
    """Every movement of credits with the balance that it left. Entries never change."""
    user_id = caller.reads_one(user)
    pool: Pool = request.app.state.pool
    before_version = version_of(cursor)
    async with within(READ_TIMEOUT_S, "Postgres"):
        page = await read_entries(pool, user_id, before_version=before_version, limit=limit)
    entries = [plain_row(entry) for entry in page.entries]
    return LedgerEntries.model_validate({"entries": entries, "next_cursor": page.next_cursor})
