"""The file that a scripted model plays."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from perstack.core.messages import FinishReason, Usage
from perstack.definition.model import Definitions, Provider
from perstack.errors import ConfigError
from perstack.models import FrozenModel

SCRIPT_VARIABLE = "PERSTACK_SCRIPT"


class ScriptedToolCall(FrozenModel):
    """One tool call of a reply; without an `id` it gets one that is no other's."""

    name: str
    id: str | None = Field(default=None, min_length=1)
    args: dict[str, Any] = Field(default_factory=dict)


class ScriptedError(FrozenModel):
    """A failure in place of a reply; after `times` failures in one process, the reply itself."""

    message: str = "scripted failure"
    status: int | None = None
    name: str | None = None
    retry_after_seconds: float | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)


class ScriptedReply(FrozenModel):
    """One reply; with a `query` only in conversations that began with it."""

    query: str | None = None
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    delay_seconds: float = Field(default=0.0, ge=0)
    error: ScriptedError | None = None


class Script(FrozenModel):
    """The replies of each expert."""

    name: str = Field(default="", exclude=True)
    experts: dict[str, tuple[ScriptedReply, ...]] = Field(default_factory=dict)

    def replies(self, expert_key: str, query: str | None = None) -> tuple[ScriptedReply, ...]:
        """The replies of an expert, in order.

        Args:
            expert_key: The expert.
            query: With what its conversation began. Replies for this query are used where there are
                any, else those for every other. Without one, all of both.
        """
        expert_replies = self.experts.get(expert_key, ())
        if query is None:
            return expert_replies
        matching = tuple(reply for reply in expert_replies if reply.query == query)
        return matching or tuple(reply for reply in expert_replies if reply.query is None)


def script_path(
    definitions: Definitions, provider: Provider, environment: Mapping[str, str]
) -> Path:
    """Where the script is: the setting, relative to perstack.toml, else the variable.

    Raises:
        ConfigError: Neither is given.
    """
    if setting := provider.setting.script:
        folder = definitions.path.parent if definitions.path else Path()
        return folder / setting
    if variable := environment.get(SCRIPT_VARIABLE):
        return Path(variable)
    raise ConfigError(
        "provider 'scripted' has no script.",
        hint=f"Set `script` under [provider.setting] in perstack.toml, or {SCRIPT_VARIABLE}.",
    )


def load_script(path: Path) -> Script:
    """Read a script.

    Raises:
        ConfigError: The file cannot be read, or is no script; the message names each place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: the script cannot be read: {reason}.") from error
    try:
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        script = Script.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {_format_problems(error)}", hint="See docs/scripted.md."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: the script cannot be read: {error}.") from error
    return script.model_copy(update={"name": path.name})


def _format_problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    )
