"""A server whose experts are typed is ready as soon as any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOML = """
[experts."a"]
instruction = "x"
tool.inputSchema = { type = "object", properties = { path = { type = "string" } } }
tool.outputSchema = '{"type": "number"}'
"""
LISTED = """
import json, sys
from pathlib import Path
import perstack.server.transports.stdio
from perstack.definition.loader import load_definitions
from perstack.server.tools.definitions import expert_tools, published_experts
definitions = load_definitions(Path(sys.argv[1])).definitions
tools = expert_tools(published_experts(definitions, "all"), definitions, 45, has_job_tools=True)
print(json.dumps([list(tools[0].input_schema["properties"])[0], "jsonschema" in sys.modules]))
"""


@pytest.mark.slow
def test_nothing_that_checks_values_is_loaded_to_list_them(tmp_path: Path) -> None:
    path = tmp_path / "perstack.toml"
    path.write_text(TOML, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", LISTED, str(path)], capture_output=True, check=True, encoding="utf-8"
    )

    assert json.loads(done.stdout) == ["path", False]
