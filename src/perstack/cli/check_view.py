"""What `perstack check` says about a file that is accepted: the experts as a tree."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from perstack.cli.choices import Choices
from perstack.cli.surface import ExpertSurface, SkillSurface, Variable, typed_kinds
from perstack.definition.model import Expert


def checked_lines(path: Path, found: tuple[ExpertSurface, ...], chosen: Choices) -> Iterator[str]:
    """The whole text, line by line."""
    known = {surface.expert.key: surface for surface in found}
    yield f"{path}: {len(known)} expert{'' if len(known) == 1 else 's'}"
    key = f", {_variable(chosen.key)}" if chosen.key else ""
    yield f"provider {chosen.provider}{key}"
    tree = _Tree(known, chosen.models)
    for surface in found:
        if surface.published_name is not None:
            yield from tree.root(surface, f"MCP tool {surface.published_name}")
    for surface in found:
        if surface.expert.key not in tree.shown:
            yield from tree.root(surface, "a delegate that no coordinator reaches")


class _Tree:
    """Draws experts below those that call them, and describes each once."""

    def __init__(self, known: Mapping[str, ExpertSurface], models: Mapping[str, str]) -> None:
        self._known = known
        self._models = models
        self.shown: set[str] = set()

    def root(self, surface: ExpertSurface, role: str) -> Iterator[str]:
        """An expert that stands by itself."""
        key = surface.expert.key
        yield ""
        yield f"{key}  ({role}{_form(surface.expert)}{self._model(key)})"
        yield from self._content(surface, "", (key,))

    def _content(
        self, surface: ExpertSurface, indent: str, above: tuple[str, ...]
    ) -> Iterator[str]:
        self.shown.add(surface.expert.key)
        bar = "│" if surface.delegates else " "
        for skill in surface.skills:
            yield f"{indent}{bar}  {skill_line(skill)}"
        if surface.expert.verifications:
            yield f"{indent}{bar}  verified: {', '.join(_checks(surface.expert))}"
        last = len(surface.delegates) - 1
        for position, (key, name) in enumerate(surface.delegates.items()):
            branch, below = ("└─", "   ") if position == last else ("├─", "│  ")
            note = self._note(key, above)
            cycle = "; a cycle" if self._reaches(key, surface.expert.key) else ""
            about = note or self._about(key)
            yield f"{indent}{branch} {key}  (called as {name}{cycle}{about})"
            if note is None:
                yield from self._content(self._known[key], f"{indent}{below}", (*above, key))

    def _note(self, key: str, above: tuple[str, ...]) -> str | None:
        """Why an expert is not described here; `None` if it is."""
        surface = self._known.get(key)
        if surface is None:
            return "; not defined here"
        if key in above:
            return "; described above"
        if surface.published_name is not None or key in self.shown:
            return "; described by itself"
        return None

    def _reaches(self, start: str, goal: str) -> bool:
        """Whether an expert can come to be called, over others or not, on behalf of another."""
        found: set[str] = set()
        waiting = [start]
        while waiting:
            key = waiting.pop()
            if key == goal:
                return True
            if key not in found and key in self._known:
                found.add(key)
                waiting += self._known[key].delegates
        return False

    def _about(self, key: str) -> str:
        return _form(self._known[key].expert) + self._model(key)

    def _model(self, key: str) -> str:
        return f"; model {self._models[key]}" if key in self._models else ""


def _form(expert: Expert) -> str:
    """What of an expert's calls is held to a schema."""
    kinds = typed_kinds(expert)
    return f"; typed {' and '.join(kinds)}" if kinds else ""


def _checks(expert: Expert) -> Iterator[str]:
    for each in expert.verifications:
        yield each.name + (" (should)" if each.priority == "should" else "")


def skill_line(skill: SkillSurface) -> str:
    """A skill with its tools as far as they are known."""
    if skill.is_interactive:
        asked = ", ".join(skill.tools) or "nothing, nobody can be asked on behalf of a delegate"
        return f"{skill.name}: asks {asked}"
    if skill.source is None:
        return f"{skill.name}: {', '.join(skill.tools) or 'no tools'}"
    tools = ", ".join(skill.pick) or "tools"
    without = f" without {', '.join(skill.omit)}" if skill.omit else ""
    needs = f"; {', '.join(map(_variable, skill.variables))}" if skill.variables else ""
    return f"{skill.name}: {tools}{without}, known when it runs: {skill.source}{needs}"


def _variable(variable: Variable) -> str:
    return f"{variable.name} is {'set' if variable.is_set else 'NOT set'}"
