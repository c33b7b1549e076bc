"""`perstack check`: all that is wrong at once, and all that can be known before a start."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.cli.main import main
from perstack.cli.terminal import Terminal

FILE = """
[provider]
providerName = "anthropic"

[experts.lead]
instruction = "Lead."
defaultModelTier = "low"
delegates = ["@lead/worker", "other"]

[experts.lead.skills.git]
type = "mcpStdioSkill"
command = "uvx"
packageName = "mcp-server-git"
omit = ["git_push"]
requiredEnv = ["GIT_TOKEN", "GIT_USER"]

[experts.lead.skills.web]
type = "mcpSseSkill"
endpoint = "https://example.com/mcp?key=hidden"

[experts.lead.skills.people]
type = "interactiveSkill"
tools.askUser.description = "Ask."

[experts."@lead/worker"]
instruction = "Work."

[experts."@lead/worker".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["exec", "readTextFile", "listDirectory"]
omit = ["exec"]

[experts.other]
instruction = "Do something else."
delegates = ["lead"]

[experts."@nobody/lost"]
instruction = "Wait."
"""
BROKEN = """
[experts.lead]
instruction = 3
delegatess = []

[experts.other]
instruction = "x"
delegates = ["leed"]
"""
FORBIDDEN = ("mcp", "litellm", "perstack.engine", "perstack.server", "opentelemetry")
PROBE = """
import json, sys
from perstack.cli.main import main
code = main(["check", "--config", sys.argv[1]])
sys.stderr.write(json.dumps(sorted(sys.modules)))
raise SystemExit(code)
"""


def check(*arguments: str | Path) -> tuple[int, str, str]:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    code = main(["check", *map(str, arguments)], terminal)
    assert isinstance(terminal.stdout, io.StringIO)
    assert isinstance(terminal.stderr, io.StringIO)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "uvx").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GIT_USER", "a secret user")
    monkeypatch.delenv("GIT_TOKEN", raising=False)


def test_an_accepted_file_is_shown_as_a_tree_of_its_experts(tmp_path: Path) -> None:
    code, out, err = check("--config", written(tmp_path))

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].endswith("perstack.toml: 4 experts")
    assert "lead  (MCP tool lead; model claude-haiku-4-5)" in lines
    assert "├─ @lead/worker  (called as worker; model claude-sonnet-4-5)" in lines
    assert any(line.startswith("@nobody/lost  (a delegate that no coordinator") for line in lines)


def test_base_tools_are_those_that_are_picked_and_not_omitted(tmp_path: Path) -> None:
    _, out, _ = check("--config", written(tmp_path))

    assert "│     @perstack/base: readTextFile, listDirectory" in out.splitlines()


def test_skills_are_shown_by_what_will_be_started_or_reached(tmp_path: Path) -> None:
    _, out, _ = check("--config", written(tmp_path))

    assert "git: tools without git_push, known when it runs: uvx mcp-server-git; " in out
    assert "web: tools, known when it runs: example.com" in out
    assert "people: asks askUser" in out


def test_what_the_provider_does_itself_is_shown(tmp_path: Path) -> None:
    skills = 'providerSkills = [{ type = "builtin", skillId = "pdf" }]'
    asked = f'[experts.a]\ninstruction = "x"\nproviderTools = ["webSearch"]\n{skills}\n'
    path = written(tmp_path, asked)

    _, lines, _ = check("--config", path)
    _, document, _ = check("--config", path, "--json")

    assert "   the provider itself: webSearch, codeExecution, skill pdf" in lines.splitlines()
    assert json.loads(document)["experts"][0]["providerTools"] == [
        "webSearch",
        "codeExecution",
        "skill pdf",
    ]


def test_fallbacks_are_shown_with_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-invented")
    fallback = '[[fallbacks]]\nmodel = "gpt-5"\nprovider = { providerName = "openai" }\n'
    path = written(tmp_path, f'{fallback}[experts.a]\ninstruction = "x"\n')

    _, lines, _ = check("--config", path)
    _, document, _ = check("--config", path, "--json")

    assert lines.splitlines()[2] == "fallback gpt-5 of openai, OPENAI_API_KEY is set"
    assert json.loads(document)["fallbacks"] == [
        {
            "provider": "openai",
            "model": "gpt-5",
            "requiredEnv": [{"name": "OPENAI_API_KEY", "isSet": True}],
        }
    ]


def test_variables_are_named_and_never_shown(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=sk-invented\n", encoding="utf-8")

    for arguments in ((), ("--json",)):
        _, out, err = check("--config", path, *arguments)
        assert not [word for word in ("hidden", "secret", "sk-invented") if word in out + err]
    _, out, _ = check("--config", path)
    assert "ANTHROPIC_API_KEY is set" in out
    assert "GIT_TOKEN is NOT set, GIT_USER is set" in out


def test_an_expert_that_is_typed_is_marked(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [experts.a]
        instruction = "x"
        delegates = ["@a/x"]
        tool.inputSchema = { type = "object" }
        tool.outputSchema = '{"type": "number"}'
        [experts."@a/x"]
        instruction = "x"
        tool.outputSchema = {}
        """,
    )
    _, out, _ = check("--config", path)
    assert "a  (MCP tool a; typed input and output; model" in out
    assert "@a/x  (called as x; typed output; model" in out
    (a, x) = json.loads(check("--config", path, "--json")[1])["experts"]
    assert (a["typed"], x["typed"]) == (["input", "output"], ["output"])


def test_experts_that_can_call_each_other_are_marked(tmp_path: Path) -> None:
    _, out, _ = check("--config", written(tmp_path))

    assert "└─ other  (called as other; a cycle; described by itself)" in out
    assert "└─ lead  (called as lead; a cycle; described by itself)" in out


def test_delegates_that_call_each_other_end_the_drawing(tmp_path: Path) -> None:
    experts = "".join(
        f'[experts."{key}"]\ninstruction = "x"\ndelegates = ["{delegate}"]\n'
        for key, delegate in (("a", "@a/x"), ("@a/x", "@a/y"), ("@a/y", "@a/x"))
    )

    code, out, _ = check("--config", written(tmp_path, experts))

    assert code == 0
    assert out.rstrip().endswith("└─ @a/x  (called as x; a cycle; described above)")


def test_a_question_is_not_offered_to_a_delegate(tmp_path: Path) -> None:
    text = FILE.replace("[experts.lead.skills.people]", '[experts."@lead/worker".skills.people]')

    _, out, _ = check("--config", written(tmp_path, text))

    assert "askUser" not in out


def test_a_broken_file_is_told_with_all_places_and_what_is_merely_odd(tmp_path: Path) -> None:
    code, out, err = check("--config", written(tmp_path, BROKEN))

    assert (code, out) == (2, "")
    assert "perstack.toml:3:" in err
    assert "perstack.toml:8:" in err
    assert "warning: perstack.toml:4:1: " in err


def test_a_broken_file_is_told_to_programs_as_json(tmp_path: Path) -> None:
    code, out, err = check("--config", written(tmp_path, BROKEN), "--json")

    document: dict[str, Any] = json.loads(out)
    assert (code, err, document["ok"]) == (2, "", False)
    assert [problem["line"] for problem in document["problems"]] == [3, 8]
    assert [warning["line"] for warning in document["warnings"]] == [4]


def test_strict_makes_an_unknown_key_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, '[experts.a]\ninstruction = "x"\ncolour = "red"\n')

    assert check("--config", path)[0] == 0
    code, _, err = check("--config", path, "--strict")
    assert code == 2
    assert "perstack.toml:3:1" in err


def test_json_has_what_the_tree_has(tmp_path: Path) -> None:
    _, out, _ = check("--config", written(tmp_path), "--json")

    document: dict[str, Any] = json.loads(out)
    lead = document["experts"][0]
    assert document["provider"] == {
        "name": "anthropic",
        "requiredEnv": [{"name": "ANTHROPIC_API_KEY", "isSet": False}],
    }
    assert (lead["toolName"], lead["model"]) == ("lead", "claude-haiku-4-5")
    assert lead["delegates"][0] == {"key": "@lead/worker", "toolName": "worker"}
    assert lead["skills"][1]["requiredEnv"] == [
        {"name": "GIT_TOKEN", "isSet": False},
        {"name": "GIT_USER", "isSet": True},
    ]


def test_a_script_that_is_missing_or_leaves_experts_out_is_a_warning(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[provider]\nproviderName = "scripted"\nsetting.script = "s.toml"\n'
        '[experts.a]\ninstruction = "x"\n',
    )

    code, _, err = check("--config", path)
    assert code == 0
    assert "s.toml" in err
    (tmp_path / "s.toml").write_text('[[experts.b]]\ntext = "hi"\n', encoding="utf-8")
    assert "no reply for expert 'a'" in check("--config", path)[2]


def test_no_file_is_an_error_in_both_forms(tmp_path: Path) -> None:
    assert check("--config", tmp_path / "absent.toml")[0] == 2
    code, out, _ = check("--config", tmp_path / "absent.toml", "--json")
    assert (code, json.loads(out)["ok"]) == (2, False)


def test_nothing_heavy_is_loaded_to_check(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(written(tmp_path))],
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    )

    loaded: list[str] = json.loads(done.stderr)
    assert [
        name
        for name in loaded
        if any(name == one or name.startswith(f"{one}.") for one in FORBIDDEN)
    ] == []


SKILLS = """
[experts.a]
instruction = "Work."

[experts.a.skills.s]
type = "mcpStdioSkill"
"""


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ('command = "no-such-command"', "command: the command 'no-such-command' was not found"),
        ('command = "npx"\npackageName = "x"', "command: the command 'npx' was not found (Install"),
        ('command = "server.sh"', "Write ./server.sh for the file beside the definition file"),
        ('command = "./absent.sh"', "absent.sh' was not found"),
        ('command = "./plain.sh"', "plain.sh' may not be executed (Make it executable"),
        ('command = "tools"\nargs = ["x"]', "'tools' was not found"),
        ('command = "./tools"', "tools' is a folder"),
        ('command = "python3"\nargs = ["absent.py"]', "args: names the file 'absent.py', which"),
        ('command = "python3"\nargs = ["-u", "./absent.py", "x.py"]', "absent.py', which is not"),
        ('command = "python3"\nargs = ["run", "tools/absent.mjs"]', "'tools/absent.mjs', which is"),
    ],
)
def test_what_a_skill_needs_and_the_machine_lacks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, problem: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").touch(mode=0o755)
    (tmp_path / "tools").mkdir()
    (tmp_path / "server.sh").touch(mode=0o755)
    (tmp_path / "plain.sh").touch(mode=0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    path = written(tmp_path, SKILLS + fields)

    code, _, told = check("--config", path)
    strict_code, _, strictly_told = check("--config", path, "--strict")

    assert code == 0
    assert "warning: perstack.toml:" in told
    assert problem in told
    assert strict_code == 2
    assert problem in strictly_told


@pytest.mark.parametrize(
    "fields",
    [
        'command = "./server.sh"',
        'command = "python3"\nargs = ["server.sh"]',
        'command = "python3"\nargs = ["./tools/server.py"]',
        'command = "python3"\nargs = ["-m", "server"]',
        'command = "python3"\nargs = ["-c", "import absent.py"]',
        'command = "python3"\nargs = ["--directory", "./tools", "run", "server.py"]',
        'command = "npx"\nargs = ["chart.js"]',
        'command = "python3"\nargs = ["https://example.com/server.ts"]',
        'command = "npx"\npackageName = "@perstack/base"',
        'command = "npx"\npackageName = "@perstack/base@0.0.54"',
    ],
)
def test_a_skill_that_starts_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("python3", "npx"):
        (tmp_path / "bin" / program).touch(mode=0o755)
    (tmp_path / "server.sh").touch(mode=0o755)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "server.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    path = written(tmp_path, SKILLS + fields)
    monkeypatch.chdir("/")

    code, _, told = check("--config", path, "--strict")

    assert (code, told) == (0, "")


def test_the_command_of_the_base_skill_is_looked_for_too(tmp_path: Path) -> None:
    text = 'perstackBaseSkillCommand = ["./absent"]\n[experts.a]\ninstruction = "Work."\n'

    _, _, told = check("--config", written(tmp_path, text))

    assert "perstack.toml:1:1: perstackBaseSkillCommand: the command" in told


def test_tools_that_the_base_skill_does_not_have_are_told(tmp_path: Path) -> None:
    text = """
[experts.a]
instruction = "Work."
[experts.a.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
args = ["-y", "@perstack/base"]
pick = ["exec", "readTextfile"]
omit = ["think"]
"""
    path = written(tmp_path, text)

    code, _, told = check("--config", path)

    assert code == 0
    assert "pick[1]: names 'readTextfile', which the base skill does not have" in told
    assert 'did you mean "readTextFile"?' in told
    assert "omit[0]: names 'think'" in told
    assert check("--config", path, "--strict")[0] == 2


def test_another_server_of_the_base_skill_may_have_any_tools(tmp_path: Path) -> None:
    own = f'perstackBaseSkillCommand = ["{sys.executable}"]\n'
    skill = 'type = "mcpStdioSkill"\ncommand = "npx"\npackageName = "@perstack/base"\n'
    text = f'{own}[experts.a]\ninstruction = "x"\n[experts.a.skills."@perstack/base"]\n{skill}'

    assert check("--config", written(tmp_path, text + 'pick = ["think"]'), "--strict")[0] == 0


def test_what_is_about_a_process_has_no_effect_on_the_built_in_skill(tmp_path: Path) -> None:
    skill = 'type = "mcpStdioSkill"\ncommand = "npx"\npackageName = "@perstack/base"\n'
    text = f'[experts.a]\ninstruction = "x"\n[experts.a.skills."@perstack/base"]\n{skill}'

    for key in ("lazyInit = true", 'scope = "engine"'):
        _, _, told = check("--config", written(tmp_path, f"{text}{key}"))
        assert f"{key.split()[0]}: has no effect: the base skill is built in" in told
    for key in ("lazyInit = false", 'scope = "job"'):
        assert check("--config", written(tmp_path, f"{text}{key}"))[2] == ""
