"""Models of the provider, as far as training needs them: made, shown, with the versions that trainings gave."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from devstack.emulator.answers import TooLarge, emulator_of, json_answer, json_body, problem
from devstack.emulator.predictions import timestamp

router = APIRouter(prefix="/v1/models")


@router.post("")
async def create_model(request: Request) -> Response:
    try:
        body = await json_body(request)
    except (TooLarge, msgspec.DecodeError):
        body = None
    if not isinstance(body, dict) or not all(isinstance(body.get(key), str) for key in ("owner", "name")):
        return problem(422, "owner and name: are required", "Input validation failed")
    emulator = emulator_of(request)
    if f"{body['owner']}/{body['name']}" in emulator.models:
        return problem(409, "A model with that name and owner already exists")
    emulator.add_model(body["owner"], body["name"])
    return json_answer(_model(body["owner"], body["name"], []), 201)


@router.get("/{owner}/{name}")
async def get_model(request: Request, owner: str, name: str) -> Response:
    """Every model exists here; one that was trained has versions."""
    return json_answer(_model(owner, name, _versions(request, owner, name)))


@router.get("/{owner}/{name}/versions")
async def list_versions(request: Request, owner: str, name: str) -> Response:
    results = list(reversed(_versions(request, owner, name)))
    return json_answer({"previous": None, "next": None, "results": results})


def _versions(request: Request, owner: str, name: str) -> list[dict[str, Any]]:
    return [
        {
            "id": version["id"],
            "created_at": timestamp(version["created_at"]),
            "cog_version": "0.0.0",
            "openapi_schema": {},
        }
        for version in emulator_of(request).versions_of(f"{owner}/{name}")
    ]


def _model(owner: str, name: str, versions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "url": f"https://replicate.com/{owner}/{name}",
        "owner": owner,
        "name": name,
        "description": None,
        "visibility": "private",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": versions[-1] if versions else None,
    }
