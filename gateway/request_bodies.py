"""Bodies of requests as the OpenAPI document shows them: made from the types that read the same from Kafka."""

from __future__ import annotations

from typing import Any

import msgspec

from models.grants import Grant
from models.requests import Request

_OPTIONAL = {"request_id", "user_id", "grant_id", "kind"}


def body_of(kind: type[msgspec.Struct], description: str, example: dict[str, Any]) -> dict[str, Any]:
    """What a route's `openapi_extra` says of a body. Ids may be left out: the header or the token has them."""
    (top,), components = msgspec.json.schema_components([kind], ref_template="#/{name}")
    schema = _inlined(top, components)
    schema["required"] = [name for name in schema.get("required", ()) if name not in _OPTIONAL]
    schema["description"] = description
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


def _inlined(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(part, components) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(components[node["$ref"].removeprefix("#/")], components)
    return {name: _inlined(part, components) for name, part in node.items() if name != "title"}


GENERATION_BODY = body_of(
    Request,
    "A request, as on generations.requested.v1. The id may come in `Idempotency-Key`, the user from the token.",
    {"user_id": "ada", "operation": "maya.image", "prompt": "a boat at dawn", "options": {"num_outputs": 1}},
)
GRANT_BODY = body_of(
    Grant,
    "A grant, as on credits.granted.v1. The id may come in `Idempotency-Key`.",
    {"grant_id": "order-17", "user_id": "ada", "amount": 100, "kind": "purchase"},
)
