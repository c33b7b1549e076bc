"""Every definition that comes with perstack is accepted as it stands, and its script fits."""

from pathlib import Path

import pytest

from perstack.definition.loader import load_definitions
from perstack.llm.scripted.script import load_script
from perstack.skills.builtin.skill import select_definitions

DEFINITIONS = Path(__file__).parents[2] / "definitions"
FILES = sorted(DEFINITIONS.glob("*/perstack.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_a_shipped_definition_has_nothing_wrong_or_odd(file: Path) -> None:
    loaded = load_definitions(file, strict=True)

    assert loaded.warnings == ()
    assert all(expert.description for expert in loaded.definitions.experts.values())


def test_the_quickstart_is_shipped() -> None:
    assert DEFINITIONS / "quickstart" / "perstack.toml" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_a_shipped_script_speaks_for_the_experts_of_its_definition(file: Path) -> None:
    definitions = load_definitions(file).definitions
    name = definitions.provider.setting.script
    if name is None:
        pytest.skip("a definition without a script")

    script = load_script(file.parent / name)

    assert set(script.experts) == set(definitions.experts)


def test_the_quickstart_s_script_knows_nothing_of_what_is_in_the_logs() -> None:
    folder = DEFINITIONS / "quickstart"
    script = (folder / "script.toml").read_text(encoding="utf-8")
    logs = [log.read_text(encoding="utf-8") for log in (folder / "workspace" / "logs").glob("*")]
    kinds = {row.split()[2] for log in logs for row in log.splitlines() if " ERROR " in row}

    assert kinds
    assert [kind for kind in kinds if kind in script] == []


def test_the_quickstart_works_with_real_tools_at_the_same_time() -> None:
    folder = DEFINITIONS / "quickstart"
    experts = load_script(folder / "script.toml").experts
    called = {call.name for replies in experts.values() for r in replies for call in r.tool_calls}
    together = [{call.name for call in reply.tool_calls} for reply in experts["release-review"]]

    assert {"errors", "changes"} in together
    assert called - {"errors", "changes", "get_current_time"} <= {
        tool.name for tool in select_definitions()
    }
