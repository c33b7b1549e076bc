"""The endpoint as a program."""

import json
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def test_the_program_prints_its_port_serves_logs_and_stops(tmp_path: Path) -> None:
    script, log = tmp_path / "script.json", tmp_path / "log.jsonl"
    script.write_text(json.dumps({"callTool": {"pattern": "add$"}}), encoding="utf-8")
    command = [sys.executable, "-m", "tests.model_server", "--script", script, "--log", log]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            url = f"{ready['baseUrl']}/v1beta/models/m:generateContent?key=sk-invented"
            body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
            headers = {"x-goog-api-key": "sk-invented"}
            response = httpx.post(url, json=body, headers=headers, trust_env=False)
        finally:
            process.terminate()
        assert process.wait(timeout=30) == 0
    assert response.json()["candidates"][0]["content"]["parts"] == [{"text": "FAKE-TEXT"}]
    text = log.read_text(encoding="utf-8")
    entry = json.loads(text)
    assert (entry["dialect"], entry["model"], entry["is_stream"]) == ("gemini", "m", False)
    assert entry["body"] == body
    assert "sk-invented" not in text


def test_a_wrong_script_ends_the_program_with_its_place(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"txt": 1}]', encoding="utf-8")
    command = [sys.executable, "-m", "tests.model_server", "--script", script, "--log", "unused"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 2
    assert "script[0]: unknown key 'txt'" in done.stderr
    assert done.stdout == ""
