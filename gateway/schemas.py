"""What the routes answer with, as the OpenAPI document shows it."""

from __future__ import annotations

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
