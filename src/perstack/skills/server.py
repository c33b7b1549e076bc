"""Which server a skill needs, and when two skills can share one."""

from dataclasses import dataclass

from perstack.definition.model import McpSseSkill, McpStdioSkill

PRESENTATION = {"description", "rule", "pick", "omit", "lazy_init"}


@dataclass(frozen=True, slots=True)
class Server:
    """A skill backed by a server; `command_line` takes the place of what the definition starts."""

    skill: McpStdioSkill | McpSseSkill
    command_line: tuple[str, ...] | None = None

    @property
    def identity(self) -> str:
        """Equal for definitions that differ only in what is shown of the server: these share it."""
        return repr((self.command_line, self.skill.model_dump_json(exclude=PRESENTATION)))
