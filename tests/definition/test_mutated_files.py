"""A mistake in a good file is an error or a warning; it is never silent and never a crash."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import tomli

from perstack.definition.loader import load_definitions
from perstack.definition.toml_positions import KeyPath
from perstack.errors import DefinitionError

SECRET = "hunter2-is-secret"
GOOD = f"""
model = "claude-sonnet-4-5"
reasoningBudget = "medium"
maxSteps = 50
maxRetries = 3
timeout = 120000
envPath = [".env", ".env.local"]
perstackApiBaseUrl = "https://api.perstack.ai"
perstackBaseSkillCommand = ["npx"]

[provider]
providerName = "anthropic"
[provider.setting]
baseUrl = "https://example.com"
headers = {{ "X-Team" = "{SECRET}" }}

[[fallbacks]]
model = "gpt-5"
[fallbacks.provider]
providerName = "openai"
[fallbacks.provider.setting]
baseUrl = "https://example.com/v1"

[experts."reviewer"]
version = "1.2.0"
minRuntimeVersion = "0.1.0"
description = "Coordinates a review; give it the directory to look at."
instruction = "Review the directory."
delegates = ["@reviewer/file"]
tags = ["stable"]
defaultModelTier = "high"

[experts."reviewer".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile"]
omit = ["exec"]
requiredEnv = ["TOKEN"]
lazyInit = false
startTimeout = 90000
rule = "Use it with care."

[experts."reviewer".skills."remote"]
type = "mcpSseSkill"
endpoint = "https://example.com/mcp"
allowedDomains = ["*.example.com"]
headers = {{ "Authorization" = "{SECRET}" }}
allowPrivate = false

[experts."reviewer".skills."ask"]
type = "interactiveSkill"
[experts."reviewer".skills."ask".tools."askUser"]
description = "Put a question to the user"
inputJsonSchema = '{{"type":"object"}}'

[experts."@reviewer/file"]
instruction = "Check the file."
"""
NAMED = ("experts", "skills", "tools", "headers")
REQUIRED = ("providerName", "instruction", "type", "command", "endpoint", "tools")
OUT_OF_RANGE: dict[str, object] = {
    "reasoningBudget": -1,
    "maxSteps": 0,
    "maxRetries": -1,
    "timeout": 0,
    "startTimeout": 0,
    "perstackApiBaseUrl": "http://example.com",
    "perstackBaseSkillCommand": [],
    "providerName": "antropic",
    "baseUrl": "http://example.com",
    "version": "1.2",
    "minRuntimeVersion": "99.0.0",
    "description": "x" * 2049,
    "instruction": "x" * 20_481,
    "delegates": ["@other/x"],
    "tags": ["a", "b", "c", "d", "e", "f", "g", "h", "i"],
    "defaultModelTier": "medium",
    "type": "mcpHttpSkill",
    "packageName": "Not A Package",
    "pick": ["x" * 256],
    "omit": [""],
    "requiredEnv": ["NOT A NAME"],
    "allowedDomains": ["xn--bcher-kva.example"],
    "rule": "x" * 2049,
    "endpoint": "https://10.0.0.1/mcp",
    "inputJsonSchema": "{",
}


def render(table: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """A document as TOML, with each table under a header of its own."""
    lines = ["[" + ".".join(json.dumps(part) for part in path) + "]"] if path else []
    inner = ""
    for name, item in table.items():
        if isinstance(item, dict):
            inner += render(cast("dict[str, Any]", item), (*path, name))
        else:
            lines.append(f"{json.dumps(name)} = {inline(item)}")
    return "\n".join(lines) + "\n" + inner


def inline(item: object) -> str:
    """A value as TOML on one line."""
    if isinstance(item, list):
        return f"[{', '.join(map(inline, cast('list[object]', item)))}]"
    if isinstance(item, dict):
        entries = cast("dict[str, object]", item).items()
        return f"{{ {', '.join(f'{json.dumps(key)} = {inline(each)}' for key, each in entries)} }}"
    return json.dumps(item)


def keys(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, item in table.items():
        yield (*path, name)
        if isinstance(item, dict):
            yield from keys(cast("dict[str, Any]", item), (*path, name))


def changed(path: tuple[str, ...], *, name: str | None = None, value: object = None) -> str:
    """The good file with the key at `path` renamed, given another value, or taken out."""
    document = deepcopy(tomli.loads(GOOD))
    here: dict[str, Any] = document
    for part in path[:-1]:
        here = here[part]
    old = here.pop(path[-1])
    if name is not None:
        here[name] = old
    elif value is not None:
        here[path[-1]] = value
    return render(document)


def typos(word: str) -> Iterator[str]:
    yield word[:-1]
    yield word[0] + word[0] + word[1:]
    yield word[1] + word[0] + word[2:]
    yield word.upper()


def mutations() -> Iterator[tuple[str, KeyPath, str]]:
    for path in keys(tomli.loads(GOOD)):
        key, parent = path[-1], path[-2] if len(path) > 1 else ""
        shown = ".".join(path)
        if parent not in NAMED:
            for typo in typos(key):
                yield f"{shown} as {typo}", path[:-1], changed(path, name=typo)
        for value in (4.5, [[1]], {"x": {"y": 1}}, True):
            if value is not True or key not in ("lazyInit", "allowPrivate"):
                yield f"{shown} = {value}", path, changed(path, value=value)
        if key in REQUIRED:
            yield f"{shown} left out", path[:-1], changed(path)
        if key in OUT_OF_RANGE:
            yield f"{shown} out of range", path, changed(path, value=OUT_OF_RANGE[key])


MUTATIONS = list(mutations())


def findings(folder: Path, text: str, *, strict: bool = False) -> tuple[str, ...]:
    path = folder / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    try:
        return tuple(str(warning) for warning in load_definitions(path, strict=strict).warnings)
    except DefinitionError as error:
        return error.problems or (str(error),)


def test_the_file_that_is_mutated_is_good(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD, strict=True) == ()
    assert findings(tmp_path, render(tomli.loads(GOOD)), strict=True) == ()


def test_there_are_enough_mutations() -> None:
    assert len(MUTATIONS) >= 200


@pytest.mark.parametrize(
    ("text", "around"),
    [pytest.param(text, around, id=name) for name, around, text in MUTATIONS],
)
def test_a_mistake_is_never_silent(tmp_path: Path, text: str, around: KeyPath) -> None:
    found = findings(tmp_path, text)
    assert found, f"nothing is said about {around}"
    assert all(one.startswith("perstack.toml:") for one in found)
    assert SECRET not in "".join(found)


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=name) for name, _, text in MUTATIONS if " as " in name]
)
def test_a_mistyped_key_is_an_error_when_strict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        load_definitions(path, strict=True)
    assert SECRET not in str(caught.value)
