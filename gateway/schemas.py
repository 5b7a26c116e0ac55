"""What the routes answer with, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
