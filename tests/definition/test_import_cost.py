"""Reading a definition file is the first thing that a server does, so it loads little."""

import json
import subprocess
import sys

LOADED = "import json, sys, perstack.definition.loader; print(json.dumps(list(sys.modules)))"


def test_reading_definitions_needs_no_protocol_network_or_event_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, check=True, encoding="utf-8"
    )

    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded.isdisjoint({"mcp", "httpx", "httpx2", "litellm", "opentelemetry", "anyio"})
    assert loaded.isdisjoint({"asyncio", "dotenv", "jsonschema", "importlib_metadata"})
