"""`[[experts."<key>".verifications]]`: what must hold before an expert may say that it is done."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from perstack.definition.diagnostics import Diagnostic, raise_field_errors, validated_by
from perstack.definition.expert_tool import OutputSchema
from perstack.models import FrozenModel

DEFAULT_TIMEOUT_MS = 300_000
DEFAULT_MAX_ATTEMPTS = 3
MAX_VERIFICATIONS = 32

Priority = Literal["must", "should"]


def _check_pattern(pattern: str) -> list[Diagnostic]:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        hint = r"write \\ where the expression has \, or use single quotes"
        return [Diagnostic(f"is no regular expression: {error}", hint)]
    return []


Pattern = Annotated[
    str, StringConstraints(min_length=1, max_length=2048), validated_by(_check_pattern)
]
CommandWord = Annotated[str, StringConstraints(max_length=32_768)]

_COMMAND_ONLY_KEYS = {"expect_exit_code": "expectExitCode", "expect_output": "expectOutput"}


class Verification(FrozenModel):
    """One check that needs no judgement: a command, or a JSON Schema."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80)] = Field(
        description="What the check is called in results."
    )
    command: tuple[CommandWord, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="A program and its arguments, run in the workspace without a shell.",
    )
    expect_exit_code: Annotated[int, Field(strict=True, ge=0, le=255)] = Field(
        default=0, description="The exit code that the command must have."
    )
    expect_output: Pattern | None = Field(
        default=None, description="Regular expression that must be found in what it writes."
    )
    json_schema: OutputSchema | None = Field(
        default=None,
        description="JSON Schema, as a table or as JSON text, that the answer or file must fit.",
    )
    file: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="With jsonSchema: a file of the workspace that must fit it, not the answer.",
    )
    priority: Priority = Field(
        default="must", description="must keeps the expert from completing, should is reported."
    )
    timeout: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=DEFAULT_TIMEOUT_MS, description="Milliseconds that the command may take."
    )

    @model_validator(mode="after")
    def _validate_exclusive_fields(self) -> Self:
        raise_field_errors(self._field_errors())
        return self

    def _field_errors(self) -> list[Diagnostic]:
        if self.command is None and self.json_schema is None:
            hint = 'write command = ["pytest", "-q"], or a jsonSchema'
            return [Diagnostic("checks nothing", hint)]
        if self.command is not None and self.json_schema is not None:
            hint = "write a verification for each"
            return [Diagnostic("has both command and jsonSchema", hint)]
        if self.command is None:
            present = [
                key for name, key in _COMMAND_ONLY_KEYS.items() if name in self.model_fields_set
            ]
            return [
                Diagnostic("has no effect without a command", key_path=(key,)) for key in present
            ]
        if any("\0" in word for word in self.command):
            return [
                Diagnostic("has a NUL character, which no command can have", key_path=("command",))
            ]
        if not self.command[0]:
            return [Diagnostic("must not be empty", key_path=("command", 0))]
        if self.file is not None:
            hint = "a jsonSchema says what the file must have"
            return [Diagnostic("has no effect without a jsonSchema", hint, ("file",))]
        return []


def _check_unique_names(verifications: Sequence[Verification]) -> list[Diagnostic]:
    names = [each.name for each in verifications]
    return [
        Diagnostic("is the name of another one already", "rename one", (index, "name"))
        for index, name in enumerate(names)
        if name in names[:index]
    ]


Verifications = Annotated[
    tuple[Verification, ...],
    Field(max_length=MAX_VERIFICATIONS),
    validated_by(_check_unique_names),
]
