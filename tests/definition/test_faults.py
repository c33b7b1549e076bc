"""One bad expert does not take down the file: those that do not need it can be used."""

from pathlib import Path

import pytest

from perstack.definition.diagnostics import InvalidDefinitionError
from perstack.definition.loader import LoadedDefinitions, load_definitions

GOOD = '[experts."good"]\ninstruction = "Work."\n'
HELPED = '[experts."helped"]\ninstruction = "Work."\ndelegates = ["@helped/one"]\n'
ONE = '[experts."@helped/one"]\ninstruction = "Help."\n'
OUTER = '[experts."outer"]\ninstruction = "Work."\ndelegates = ["helped", "good"]\n'


def loaded(folder: Path, text: str, *, strict: bool = False) -> LoadedDefinitions:
    path = folder / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    return load_definitions(path, strict=strict, keep_sound=True)


@pytest.mark.parametrize(
    "bad",
    [
        '[experts."bad"]\ninstruktion = "Work."\n',
        '[experts."bad"]\ninstruction = 1\n',
        '[experts."bad"]\ninstruction = ""\n',
        'experts.bad = "no table"\n',
        '[experts."bad"]\ninstruction = "Work."\nversion = "1"\n',
        '[experts."bad"]\ninstruction = "Work."\nminRuntimeVersion = "99.0.0"\n',
        '[experts."bad"]\ninstruction = "Work."\ndelegates = ["nobody"]\n',
        '[experts."bad"]\ninstruction = "Work."\ndelegates = ["bad"]\n',
        '[experts."bad"]\ninstruction = "Work."\n[experts."bad".skills.s]\ntype = "mcpStdioSkil"\n',
        (
            '[experts."bad"]\ninstruction = "Work."\n[experts."bad".skills.s]\n'
            'type = "mcpStdioSkill"\ncommand = "npx"\n'
        ),
        (
            '[experts."bad"]\ninstruction = "Work."\n[experts."bad".skills.s]\n'
            'type = "mcpSseSkill"\nendpoint = "http://example.com"\n'
        ),
        (
            '[experts."bad"]\ninstruction = "Work."\n[experts."bad".skills.s]\n'
            'type = "interactiveSkill"\ntools.ask.inputJsonSchema = "{"\n'
        ),
        '[experts."bad"]\ninstruction = "Work."\nproviderTools = ["noSuchTool"]\n',
    ],
)
def test_an_expert_with_an_error_is_left_out_and_named(tmp_path: Path, bad: str) -> None:
    text = f"{bad}{GOOD}" if bad.startswith("experts.") else f"{GOOD}{bad}"

    found = loaded(tmp_path, text)

    assert set(found.definitions.experts) == {"good"}
    assert set(found.faults) == {"bad"}
    (report,) = found.fault_reports
    assert report.startswith("perstack.toml:")
    assert report.endswith("Expert 'bad' is left out.")
    for is_strict in (False, True):
        with pytest.raises(InvalidDefinitionError):
            load_definitions(tmp_path / "perstack.toml", strict=is_strict)
    with pytest.raises(InvalidDefinitionError):
        loaded(tmp_path, text, strict=True)


def test_an_expert_that_needs_a_bad_one_is_left_out_too(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD + HELPED + OUTER + ONE.replace("instruction", "instruktion"))

    assert set(found.definitions.experts) == {"good"}
    assert set(found.faults) == {"@helped/one", "helped", "outer"}
    assert "'@helped/one' cannot be used" in str(found.faults["helped"][0])
    assert "'helped' cannot be used" in str(found.faults["outer"][0])
    assert found.faults["helped"][0].line == 5


def test_experts_that_call_each_other_fall_together(tmp_path: Path) -> None:
    ring = "".join(
        f'[experts."{name}"]\ninstruction = "Work."\ndelegates = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    )

    assert set(loaded(tmp_path, GOOD + ring).definitions.experts) == {"good", "a", "b", "c"}
    broken = loaded(tmp_path, GOOD + ring.replace('["a"]', '["a", "nobody"]'))
    assert set(broken.definitions.experts) == {"good"}


def test_a_delegate_survives_its_coordinator(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD + HELPED.replace("instruction", "instruktion") + ONE)

    assert set(found.definitions.experts) == {"good", "@helped/one"}


@pytest.mark.parametrize(
    "text",
    [
        "maxSteps = 0\n" + GOOD,
        "[provider]\nproviderName = 'nobody'\n" + GOOD,
        GOOD.replace("instruction", "instruktion"),
        GOOD + "[[[",
        "experts = 1\n",
    ],
)
def test_what_concerns_every_expert_takes_the_file_down(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidDefinitionError):
        loaded(tmp_path, text)


def test_a_sound_file_has_no_faults(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD + HELPED + ONE).faults == {}
