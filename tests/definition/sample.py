"""Definition files for the tests, and the way to load them."""

from pathlib import Path

import pytest

from perstack.definition.diagnostics import InvalidDefinitionError
from perstack.definition.loader import LoadedDefinitions, load_definitions

COMPLETE = """\
model = "claude-sonnet-4-5"
reasoningBudget = "medium"
maxSteps = 50
maxRetries = 3
timeout = 120000
envPath = [".env", ".env.local"]

[provider]
providerName = "anthropic"
[provider.setting]
headers = { "X-Team" = "qa" }

[experts."reviewer"]
version = "1.2.0"
description = "Coordinates a review; give it the directory to look at."
instruction = "Review the directory. Ask the file reviewer about each file, then rank the findings."
delegates = ["@reviewer/file"]
tags = ["stable"]
defaultModelTier = "high"

[experts."reviewer".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile", "exec", "attemptCompletion"]

[experts."reviewer".skills."ask"]
type = "interactiveSkill"
[experts."reviewer".skills."ask".tools."askUser"]
description = "Put a question to the user"
inputJsonSchema = '{"type":"object","properties":{"question":{"type":"string"}}}'

[experts."@reviewer/file"]
description = "Reviews one file; give it the path."
instruction = "Check the file for injection, XSS and auth bypass."
defaultModelTier = "low"
"""
EXPERT = '[experts."a"]\ninstruction = "Do it."\n'


def write(folder: Path, content: str | bytes) -> Path:
    """A definition file in a folder."""
    path = folder / "perstack.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def accepted(folder: Path, content: str | bytes, *, strict: bool = False) -> LoadedDefinitions:
    """A file that is good enough."""
    return load_definitions(write(folder, content), strict=strict)


def refused(folder: Path, content: str | bytes, *, strict: bool = False) -> InvalidDefinitionError:
    """Why a file is not accepted."""
    with pytest.raises(InvalidDefinitionError) as caught:
        load_definitions(write(folder, content), strict=strict)
    return caught.value


def problems(folder: Path, content: str | bytes) -> list[str]:
    """The problems of a file that is not accepted, one line each."""
    return [str(problem) for problem in refused(folder, content).details]


def warnings(folder: Path, content: str | bytes) -> list[str]:
    """The warnings of a file that is accepted, one line each."""
    return [str(warning) for warning in accepted(folder, content).warnings]
