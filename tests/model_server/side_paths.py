"""Requests that clients make beside model calls."""

from tests.model_server.json_values import JsonObject

_MODEL = {"id": "fake-model", "object": "model", "created": 1, "owned_by": "fake"}


def side_answer(path: str) -> JsonObject:
    """What to answer on a path that calls no model; an empty object where nothing is known."""
    if path.endswith("/count_tokens"):
        return {"input_tokens": 10}
    if path.endswith(":countTokens"):
        return {"totalTokens": 10}
    if path.endswith("/api/tags"):
        return {"models": [{"name": "fake-model", "model": "fake-model"}]}
    if path.endswith("/api/show"):
        return {
            "template": "{{ .Tools }}",
            "capabilities": ["completion", "tools", "thinking"],
            "model_info": {"general.architecture": "fake", "fake.context_length": 128000},
        }
    if "/models" in path:
        return {"object": "list", "data": [_MODEL], "models": []}
    return {}
