"""A fuzzer throws nonsense at the server, over both transports, and a scanner reads its tools."""

import json
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from _foreign import python_with
from _http import HttpServer, ask
from _stage import PERSTACK, ROOT, conclude, plain_environment, say, workplace

from perstack.definition.loader import load_definitions
from perstack.json_schema import validation_errors
from perstack.server.tools.definitions import expert_tools, job_tools, published_experts

FUZZER = "mcp-fuzzer==0.7.0"
SCANNER = "cisco-ai-mcp-scanner==4.8.7"
FIXTURES = ROOT / "scripts" / "proofs" / "fuzz"
OPTIONS = ("--wait-seconds", "5")
RUN_SECONDS = 240
SEED = "20261121"

TOOLS = ("--mode", "tools", "--phase", "aggressive", "--havoc", "--runs", "20")
PROTOCOL = (
    *("--mode", "protocol", "--protocol-phase", "aggressive", "--runs-per-type", "6"),
    *("--stateful", "--spec-resource-uri", "perstack://definitions"),
    *("--spec-prompt-name", "greeter", "--spec-prompt-args", '{"query": "x"}'),
)
RUNS = {
    "tools": TOOLS,
    "protocol": PROTOCOL,
    "protocol of 2026-07-28": (*PROTOCOL, "--spec-schema-version", "2026-07-28"),
}

NOTHING_WRONG = {
    "CallToolRequest": "its good arguments are answered",
    "ReadResourceRequest": "what exists is read",
    "InitializeRequest": "a client may call itself anything",
    "PingRequest": "it has nothing to be wrong",
    "SetLevelRequest": "its levels exist",
    "InitializedNotification": "a notification has no answer",
    "ProgressNotification": "a notification has no answer",
    "CancelledNotification": "a notification has no answer",
    "SubscribeRequest": "any address can be followed, so that nobody learns which exist",
    "UnsubscribeRequest": "any address can be left",
    "GenericJSONRPCRequest": "what a request does not know it leaves aside",
    "stateful_sequences": "they are made of good requests",
    "ListToolsRequest": "without a cursor it is a good request",
    "ListPromptsRequest": "without a cursor it is a good request",
    "ListResourcesRequest": "without a cursor it is a good request",
    "ListResourceTemplatesRequest": "without a cursor it is a good request",
}
"""Why an answer that the fuzzer did not expect is right; only it is, no other kind of finding."""


@dataclass(frozen=True)
class Target:
    """A server to be fuzzed.

    Attributes:
        transport: What the fuzzer calls its transport.
        endpoint: Its address, or its command line.
        folder: Where its experts are.
    """

    transport: str
    endpoint: str
    folder: Path


@contextmanager
def experts() -> Generator[Path]:
    """A folder with the fixtures."""
    with workplace() as home:
        folder = home / "experts"
        shutil.copytree(FIXTURES, folder)
        yield folder


def run_fuzzer(target: Target, name: str) -> bool:
    """Let the fuzzer do one kind of its work, and say what it found."""
    out = target.folder.parent / "findings" / f"{target.transport} {name}".replace(" ", "-")
    command = [
        *(str(python_with("mcp-fuzzer", FUZZER) / "mcp-fuzzer"), *RUNS[name]),
        *("--protocol", target.transport, "--endpoint", target.endpoint, "--seed", SEED),
        *("--timeout", "20", "--no-network", "--allow-host", "127.0.0.1", "--no-corpus"),
        *("--fs-root", str(out / "files"), "--output-dir", str(out)),
    ]
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=target.folder,
        env=plain_environment(NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    sent, faults = verdict(out)
    written = "".join(path.read_text(encoding="utf-8") for path in out.rglob("*.json"))
    unanswered = (said + written).lower().count("timed out")
    holds = done.returncode == 0 and sent > 0 and not faults and not unanswered
    say(
        f"mcp-fuzzer, {name} over {target.transport}: {sent} runs, {unanswered} unanswered, "
        f"{sum(faults.values())} findings, {time.monotonic() - began:.0f} s"
    )
    for (category, place), count in faults.items():
        say(f"  {category} of {place}: {count}")
    if not holds:
        say(f"  exit code {done.returncode}\n{said[-1500:]}")
    return holds


def verdict(out: Path) -> tuple[int, Counter[tuple[str, str]]]:
    """How many inputs were sent, and which findings there are that are not right after all."""
    sent = 0
    for path in out.glob("sessions/*/*_fuzzing_results.json"):
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["data"]
        sent += sum(int(tool["runs"]) for tool in data["tools_tested"])
    summary: dict[str, Any] = json.loads((out / "run_summary.json").read_text(encoding="utf-8"))
    protocols: dict[str, Any] = summary.get("protocols", {}).get("by_type", {})
    sent += sum(int(each["total_runs"]) for each in protocols.values())
    findings: list[dict[str, Any]] = json.loads(
        (out / "findings.json").read_text(encoding="utf-8")
    )["findings"]
    faults = Counter(
        (str(found["category"]), str(found["target"]))
        for found in findings
        if found["category"] != "accepted_malformed" or not is_right(found)
    )
    return sent, faults


def is_right(found: dict[str, Any]) -> bool:
    """Whether it is right that an input was accepted: by chance, the fuzzer makes good ones too."""
    schema = input_schemas().get(str(found["target"]))
    if schema is None:
        return found["target"] in NOTHING_WRONG
    return not validation_errors(found["evidence"]["input"], schema)


@cache
def input_schemas() -> dict[str, dict[str, Any]]:
    """What the tools of the fixtures say that they take, as clients see it."""
    definitions = load_definitions(FIXTURES / "perstack.toml").definitions
    experts = published_experts(definitions, "coordinators")
    tools = [*expert_tools(experts, definitions, None, has_job_tools=True), *job_tools(None)]
    return {tool.name: tool.input_schema for tool in tools}


def still_serves(url: str) -> bool:
    """Whether the server answers as if nothing had happened, and works on nothing any more."""
    given = {"name": "greeter", "arguments": {"query": "hello"}}
    greeted = ask(url, "tools/call", given)["result"]["structuredContent"]["text"]
    listing = {"name": "perstack_jobs", "arguments": {"status": "running"}}
    running = ask(url, "tools/call", listing)["result"]["structuredContent"]["jobs"]
    say(f"afterwards it says {greeted!r} and {len(running)} jobs are running")
    return greeted == "Hello." and not running


def fuzz_http() -> bool:
    """The fuzzer against a server over HTTP."""
    with experts() as folder:
        with HttpServer(folder, plain_environment(), *OPTIONS) as server:
            target = Target("streamablehttp", server.url, folder)
            held = [run_fuzzer(target, name) for name in RUNS]
            held.append(still_serves(server.url))
        return all(held) and is_sound(server.stderr) and server.exit_code == 0


def fuzz_stdio() -> bool:
    """The fuzzer against servers that it starts itself."""
    with experts() as folder:
        log = folder.parent / "stderr"
        command = shlex.join([*PERSTACK, "serve", *OPTIONS])
        program = folder.parent / "serve.sh"
        program.write_text(f"exec {command} 2>>{shlex.quote(str(log))}\n", encoding="utf-8")
        target = Target("stdio", f"sh {program}", folder)
        held = [run_fuzzer(target, name) for name in ("tools", "protocol")]
        return all(held) and is_sound(log.read_text(encoding="utf-8", errors="replace"))


def is_sound(stderr: str) -> bool:
    """Whether nothing broke inside."""
    if "Traceback" in stderr:
        say(stderr[-3000:])
    return "Traceback" not in stderr


def scanner_finds_nothing() -> bool:
    """The scanner's rules, on everything that the server tells a model."""
    scanner = python_with("mcp-scanner", SCANNER) / "mcp-scanner"
    with experts() as folder:
        done = subprocess.run(
            [
                *(str(scanner), "--analyzers", "yara", "--format", "raw", "stdio"),
                *("--stdio-command", PERSTACK[0]),
                *(f"--stdio-arg={argument}" for argument in (*PERSTACK[1:], "serve")),
            ],
            cwd=folder,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    said = done.stdout.decode(errors="replace")
    report: dict[str, Any] = json.loads(said[said.index("{") :]) if "{" in said else {}
    results: list[dict[str, Any]] = report.get("scan_results", [])
    unsafe = [result for result in results if not result.get("is_safe")]
    say(f"mcp-scanner: {len(results)} tools, {len(unsafe)} of them unsafe")
    for result in unsafe:
        say(f"  {result.get('tool_name')}: {json.dumps(result.get('findings'))[:500]}")
    if done.returncode:
        say(done.stderr.decode(errors="replace")[-1500:])
    return done.returncode == 0 and bool(results) and not unsafe


def main() -> None:
    """Fuzz both transports, then scan."""
    held = {
        "fuzzer over HTTP": fuzz_http(),
        "fuzzer over stdio": fuzz_stdio(),
        "scanner": scanner_finds_nothing(),
    }
    broken = [name for name, holds in held.items() if not holds]
    conclude(
        "fuzz",
        holds=not broken,
        seen=f"seed {SEED}: found by {', '.join(broken)}"
        if broken
        else f"seed {SEED}: every input was answered, nothing broke, nothing unsafe was found",
    )


if __name__ == "__main__":
    main()
