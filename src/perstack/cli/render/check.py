"""What `perstack check` says about a file that is accepted: the experts as a tree."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from perstack.cli.formatting import format_count
from perstack.expert_tools import (
    ExpertToolset,
    SkillToolset,
    declared_schema_kinds,
)
from perstack.model_resolution import EnvironmentVariable, ModelResolution


def check_report_lines(
    path: Path, toolsets: tuple[ExpertToolset, ...], resolution: ModelResolution
) -> Iterator[str]:
    """The whole text, line by line."""
    toolsets_by_key = {surface.expert.key: surface for surface in toolsets}
    yield f"{path}: {format_count(len(toolsets_by_key), 'expert')}"
    key = f", {_variable_label(resolution.key)}" if resolution.key else ""
    yield f"provider {resolution.provider}{key}"
    tree = _ExpertTree(toolsets_by_key, resolution.models)
    for toolset in toolsets:
        if toolset.published_name is not None:
            yield from tree.root_lines(toolset, f"MCP tool {toolset.published_name}")
    for toolset in toolsets:
        if toolset.expert.key not in tree.described_keys:
            yield from tree.root_lines(toolset, "a delegate that no coordinator reaches")


class _ExpertTree:
    """Draws experts below those that call them, and describes each once."""

    def __init__(self, toolsets: Mapping[str, ExpertToolset], models: Mapping[str, str]) -> None:
        self._toolsets = toolsets
        self._models = models
        self.described_keys: set[str] = set()

    def root_lines(self, toolset: ExpertToolset, role: str) -> Iterator[str]:
        key = toolset.expert.key
        yield ""
        yield f"{key}  ({role}{self._description_suffix(key)})"
        yield from self._content_lines(toolset, "", (key,))

    def _content_lines(
        self, toolset: ExpertToolset, indent: str, ancestors: tuple[str, ...]
    ) -> Iterator[str]:
        self.described_keys.add(toolset.expert.key)
        bar = "│" if toolset.delegates else " "
        for skill in toolset.skills:
            yield f"{indent}{bar}  {skill_line(skill)}"
        verifications = [
            each.name if each.priority == "must" else f"{each.name} (should)"
            for each in toolset.expert.verifications
        ]
        if verifications:
            yield f"{indent}{bar}  verified: {', '.join(verifications)}"
        last = len(toolset.delegates) - 1
        for position, (key, name) in enumerate(toolset.delegates.items()):
            branch, below = ("└─", "   ") if position == last else ("├─", "│  ")
            note = self._omission_suffix(key, ancestors)
            cycle = "; a cycle" if self._can_reach(key, toolset.expert.key) else ""
            suffix = note or self._description_suffix(key)
            yield f"{indent}{branch} {key}  (called as {name}{cycle}{suffix})"
            if note is None:
                yield from self._content_lines(
                    self._toolsets[key], f"{indent}{below}", (*ancestors, key)
                )

    def _omission_suffix(self, key: str, ancestors: tuple[str, ...]) -> str | None:
        """Why an expert is not described here; `None` if it is."""
        toolset = self._toolsets.get(key)
        if toolset is None:
            return "; not defined here"
        if key in ancestors:
            return "; described above"
        if toolset.published_name is not None or key in self.described_keys:
            return "; described by itself"
        return None

    def _can_reach(self, start: str, goal: str) -> bool:
        """Whether an expert can come to be called, over others or not, on behalf of another."""
        visited: set[str] = set()
        pending = [start]
        while pending:
            key = pending.pop()
            if key == goal:
                return True
            if key not in visited and key in self._toolsets:
                visited.add(key)
                pending += self._toolsets[key].delegates
        return False

    def _description_suffix(self, key: str) -> str:
        """Which of an expert's calls follow a schema, and its model."""
        kinds = declared_schema_kinds(self._toolsets[key].expert)
        typed = f"; typed {' and '.join(kinds)}" if kinds else ""
        return typed + (f"; model {self._models[key]}" if key in self._models else "")


def skill_line(skill: SkillToolset) -> str:
    """A skill with its tools as far as they are known."""
    if skill.is_interactive:
        asking_tools = (
            ", ".join(skill.tools) or "nothing, nobody can be asked on behalf of a delegate"
        )
        return f"{skill.name}: asks {asking_tools}"
    if skill.source is None:
        return f"{skill.name}: {', '.join(skill.tools) or 'no tools'}"
    tools = ", ".join(skill.pick) or "tools"
    without = f" without {', '.join(skill.omit)}" if skill.omit else ""
    needs = f"; {', '.join(map(_variable_label, skill.variables))}" if skill.variables else ""
    return f"{skill.name}: {tools}{without}, known when it runs: {skill.source}{needs}"


def _variable_label(variable: EnvironmentVariable) -> str:
    return f"{variable.name} is {'set' if variable.is_set else 'NOT set'}"
