"""Tools: of skills side by side, of several kinds at once, chosen, missing, failing, and images."""

import json
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

from _upstream_stage import (
    SKILL,
    Project,
    Ran,
    calls,
    case,
    done,
    expert,
    holds,
    project,
    question,
    result_texts,
    same,
    says,
    skill,
)

from tests.model_server.fault import HttpError

BASE = "@perstack/base"
GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
MIXED = "\n".join(
    [
        expert("desk", 'delegates = ["@desk/clerk"]'),
        skill("desk"),
        question("desk"),
        expert("@desk/clerk"),
    ]
)
ALL_KINDS = calls(
    ("askUser", {"text": "Which?"}), ("clerk", {"query": "Look."}), ("place", {"text": "x"})
)


@case("result-by-result")
def parallel_tools(folder: Path) -> None:
    """Calls of skills in one message are made at once, and answered in the order of the calls."""
    with project(
        folder,
        expert("desk") + skill("desk"),
        desk=[
            calls(("first", {}), ("second", {}), ("readTextFile", {"path": "perstack.toml"})),
            done(),
        ],
    ) as here:
        ran = here.completes("desk", "Call both.")
        called = ran.of("callTools")[0]
        same(
            [each["toolName"] for each in called["toolCalls"]],
            ["first", "second", "readTextFile"],
            "calls",
        )
        resolved = ran.one("resolveToolResults")["toolResults"]
        same({each["id"] for each in resolved}, {each["id"] for each in called["toolCalls"]}, "ids")
        (message,) = ran.one("finishToolCall")["newMessages"]
        names = [part["toolName"] for part in message["contents"]]
        same(names, ["first", "second", "readTextFile"], "results as the model reads them")
        between = ran.types[ran.types.index("callTools") : ran.types.index("resolveToolResults")]
        recorded = [kind for kind in between if kind in ("startToolCalls", "recordToolResult")]
        same(recorded, ["startToolCalls", *["recordToolResult"] * 3], "what is recorded")


@case("open-questions")
def mixed_kinds(folder: Path) -> None:
    """Of one message, skills are called first, then delegates, then the user is asked."""
    with project(folder, MIXED, desk=[ALL_KINDS, done("green")], clerk=[done("seen")]) as here:
        ran = here.run("desk", "All at once.")
        same((ran.code, ran.end["type"]), (3, "stopRunByInteractiveTool"), "the end")
        kinds = (
            *("callTools", "finishMcpTools", "callDelegate", "stopRunByDelegate", "resumeFromStop"),
            *("proceedToInteractiveTools", "callInteractiveTool", "stopRunByInteractiveTool"),
        )
        course = [each["type"] for each in ran.of(*kinds) if each["expertKey"] == "desk"]
        same(course, list(kinds), "the course")
        names = [each["toolName"] for each in ran.of("callTools")[0]["toolCalls"]]
        same(names, ["place", "clerk", "askUser"], "the order of the calls")
        waiting = ran.one("stopRunByDelegate")["checkpoint"]
        same(_names(waiting["partialToolResults"]), ["place"], "answered before the delegate")
        same(_names(waiting["pendingToolCalls"]), ["clerk", "askUser"], "open before the delegate")
        asking = ran.end["checkpoint"]
        same(asking["status"], "stoppedByInteractiveTool", "the status")
        same(sorted(_names(asking["partialToolResults"])), ["clerk", "place"], "answered then")
        same(_names(asking["pendingToolCalls"]), ["askUser"], "open then")

        answered = here.completes("desk", "green", "-i", "--continue-job", ran.job)
        (message,) = answered.one("finishAllToolCalls")["newMessages"]
        said = [part["toolName"] for part in message["contents"]]
        same(said, ["askUser", "clerk", "place"], "results in the order of the model's calls")


def _names(calls_or_results: list[dict[str, Any]]) -> list[str]:
    return [each["toolName"] for each in calls_or_results]


@case()
def picked(folder: Path) -> None:
    """With `pick`, an expert has these tools of a skill only."""
    base = f'[experts."desk".skills."{BASE}"]\ntype = "mcpStdioSkill"\ncommand = "npx"\n'
    base += f'packageName = "{BASE}"\n'
    toml = expert("desk") + base + 'pick = ["todo", "attemptCompletion"]\n'
    reply = calls(("readTextFile", {"path": "a"}), ("todo", {}))
    with project(folder, toml, desk=[reply, done()]) as here:
        ran = here.completes("desk", "Read.")
        same(set(here.model.requests[0].tool_names), {"todo", "attemptCompletion"}, "tools")
        first, _ = ran.one("resolveToolResults")["toolResults"]
        holds(first["isError"], "a tool that was not picked has worked")


@case()
def omitted(folder: Path) -> None:
    """With `omit`, an expert has all tools of a skill but these."""
    with project(
        folder, expert("desk") + skill("desk", "pair", 'omit = ["second"]'), desk=[done()]
    ) as here:
        here.completes("desk", "Go.")
        names = here.model.requests[0].tool_names
        holds({"first", "place"} <= {*names} and "second" not in names, f"tools: {names}")


@case("base-always")
def several_skills(folder: Path) -> None:
    """An expert has the tools of all its skills; two of one name stay apart."""
    toml = expert("desk") + skill("desk", "one") + skill("desk", "two", arguments=("other",))
    with project(folder, toml, desk=[done()]) as here:
        ran = here.completes("desk", "Go.")
        ready = {event["skillName"] for event in ran.of("skillConnected")}
        same(ready, {BASE, "one", "two"}, "skills that are ready")
        places = [name for name in here.model.requests[0].tool_names if "place" in name]
        same((len(places), len(set(places))), (2, 2), "tools named place")


@case()
def bundled_base(folder: Path) -> None:
    """The base skill is part of the program: it is ready in each run, and no process is started."""
    with project(folder, expert("desk"), desk=[done()]) as here:
        ran = here.completes("desk", "Go.")
        same(ran.one("skillConnected")["skillName"], BASE, "what is ready")
        same(ran.of("skillStarting"), [], "processes")
        holds("attemptCompletion" in here.model.requests[0].tool_names, "it has no tools")


@case()
def other_base(folder: Path) -> None:
    """`perstackBaseSkillCommand` starts another base skill, whose tools the expert has."""
    command = json.dumps([sys.executable, str(SKILL)])
    with project(folder, expert("desk"), desk=[says("done")]) as here:
        file = here.folder / "perstack.toml"
        text = file.read_text(encoding="utf-8")
        file.write_text(f"perstackBaseSkillCommand = {command}\n{text}", encoding="utf-8")
        ran = here.completes("desk", "Go.")
        same(ran.one("skillStarting")["skillName"], BASE, "what is started")
        same({*here.model.requests[0].tool_names}, {"first", "second", "place"}, "tools")


@case("start-first")
def connected_before_the_model(folder: Path) -> None:
    """Skills are connected before the model is asked; their times and words are told."""
    toml = expert("desk") + skill("desk", arguments=("cross",))
    with project(folder, toml, desk=[done()]) as here:
        ran = here.completes("desk", "Go.")
        order = [kind for kind in ran.types if kind in ("startRun", "startGeneration")]
        same(order[0], "startRun", "what comes first")
        (ready,) = [each for each in ran.of("skillConnected") if each["skillName"] == "pair"]
        place = ran.events.index(ready)
        holds(place < ran.types.index("startGeneration"), "the model is asked before")
        same(ready["serverInfo"], {"name": "pair", "version": "1.0.0"}, "who it is")
        holds(ready["totalDurationMs"] > 0, "how long it took is not told")
        holds("cross" in ran.one("skillStderr")["message"], "what it says is not told")


@case("lazy-by-call")
def lazy_skills(folder: Path) -> None:
    """With `lazyInit` a skill whose tools are known is started by the first call of one of them."""
    toml = expert("desk") + skill("desk", "pair", "lazyInit = true")
    replies = [done(), done(), calls(("place", {})), done()]
    with project(folder, toml, desk=replies) as here:
        here.completes("desk", "Do nothing.")
        idle = here.completes("desk", "Do nothing once more.")
        same(idle.of("skillStarting"), [], "what is started without a call")
        offered = [{*request.tool_names} for request in here.model.requests]
        holds(offered[0] >= {"first", "second", "place"}, f"tools: {offered[0]}")
        same(offered[1], offered[0], "tools when they are known")
        ran = here.completes("desk", "Where?")
        order = [kind for kind in ran.types if kind in ("callTools", "skillStarting")]
        same(order[:2], ["callTools", "skillStarting"], "what starts it")
        ready = [each["skillName"] for each in ran.of("skillConnected")]
        same(ready, [BASE, "pair"], "what is ready")


@case()
def environment_of_skills(folder: Path) -> None:
    """A skill gets the variables that it requires, and no keys; a missing one is an error."""
    with project(
        folder, expert("desk") + skill("desk"), desk=[calls(("place", {})), done()]
    ) as here:
        ran = here.completes("desk", "Where?")
        seen = json.loads(result_texts(ran.one("resolveToolResults")["toolResults"])[0])
        holds("ANTHROPIC_API_KEY" not in seen["env"], "it has the key of the model")
        same(Path(seen["cwd"]).resolve(), here.folder.resolve(), "its folder")
    toml = expert("desk") + skill("desk", "pair", 'requiredEnv = ["TICKET"]')
    with project(folder, toml, desk=[done()]) as here:
        ran = here.run("desk", "Go.")
        holds(ran.code != 0 and "TICKET" in ran.stderr, ran.stderr)


@case()
def missing_command(folder: Path) -> None:
    """A skill whose command is not there ends the run with an error that names it."""
    table = '[experts."desk".skills."gone"]\ntype = "mcpStdioSkill"\n'
    toml = expert("desk") + table + 'command = "no-such-command-7"\nargs = ["x"]\n'
    with project(folder, toml, desk=[done()]) as here:
        ran = here.run("desk", "Go.")
        holds(ran.code != 0 and "no-such-command-7" in ran.stderr, ran.stderr)
        same(len(here.model.requests), 0, "requests")


@case()
def recovers_from_a_tool_error(folder: Path) -> None:
    """What a tool cannot do is a result that the expert reads, and it goes on."""
    with project(
        folder,
        expert("desk"),
        desk=[calls(("readTextFile", {"path": "nowhere.txt"})), done("there is none")],
    ) as here:
        ran = here.completes("desk", "Read nowhere.txt.")
        (text,) = result_texts(ran.one("resolveToolResults")["toolResults"])
        holds("does not exist" in text, f"the expert reads {text!r}")


@case("tool-errors")
def unknown_tool(folder: Path) -> None:
    """A call of a tool that does not exist is answered with an error that lists those that do."""
    with project(folder, expert("desk"), desk=[calls(("divine", {})), done()]) as here:
        ran = here.completes("desk", "Go.")
        (result,) = ran.one("resolveToolResults")["toolResults"]
        holds(result["isError"] and "attemptCompletion" in result_texts([result])[0], str(result))


@case()
def wrong_key(folder: Path) -> None:
    """A key that the provider refuses stops the run at once, with its status and no retry."""
    with project(folder, expert("desk"), desk=[HttpError(401, "invalid x-api-key")]) as here:
        ran = here.run("desk", "Go.")
        error = ran.end["error"]
        same((ran.code, ran.end["type"], len(here.model.requests)), (1, "stopRunByError", 1), "end")
        same((error["statusCode"], error["isRetryable"]), (401, False), "the error")
        same(ran.end["checkpoint"]["status"], "stoppedByError", "the status")


@case()
def unknown_provider(folder: Path) -> None:
    """A provider that does not exist is refused by name."""
    with project(folder, expert("desk"), desk=[done()]) as here:
        ran = here.run("desk", "Go.", "--provider", "oracle-of-delphi")
        holds(ran.code != 0 and "oracle-of-delphi" in ran.stderr, ran.stderr)
        same((ran.stdout, len(here.model.requests)), ("", 0), "what happened")


@case()
def open_todos(folder: Path) -> None:
    """A completion with todos left is refused, and the expert reads which they are."""
    with project(
        folder,
        expert("desk"),
        desk=[
            calls(("todo", {"newTodos": ["sweep"]})),
            done("early"),
            calls(("todo", {"completedTodos": [0]})),
            done("late"),
        ],
    ) as here:
        ran = here.completes("desk", "Sweep.")
        refused, accepted = ran.of("attemptCompletion")
        holds("sweep" in result_texts([refused["toolResult"]])[0], "it does not read what is left")
        same((refused["accepted"], accepted["accepted"]), (False, True), "what was accepted")
        same(ran.end["text"], "late", "the answer")


@case()
def completion_by_tool(folder: Path) -> None:
    """`attemptCompletion` completes the run with its result, and tells the tokens of its call."""
    with project(folder, expert("desk"), desk=[done("all is well")]) as here:
        ran = here.completes("desk", "How is it?")
        same(ran.end["text"], "all is well", "the answer")
        same(ran.end["usage"]["inputTokens"], 11, "tokens")
        kinds = [each["type"] for each in ran.end["step"]["newMessages"]]
        same(kinds, ["expertMessage", "toolMessage", "expertMessage"], "messages of the step")


@case()
def completion_by_text(folder: Path) -> None:
    """A text without calls completes the run too."""
    with project(folder, expert("desk"), desk=[says("hello")]) as here:
        ran = here.completes("desk", "Say hello.")
        same((ran.end["text"], len(ran.of("callTools"))), ("hello", 0), "the answer")


def _reads(here: Project, name: str) -> tuple[Ran, dict[str, Any]]:
    ran = here.completes("desk", f"Look at {name}.")
    (message,) = ran.one("finishToolCall")["newMessages"]
    parts = message["contents"][0]["contents"]
    (found,) = [part for part in parts if part["type"] != "textPart"]
    return ran, found


@case()
def reads_an_image(folder: Path) -> None:
    """An image file becomes an image of the conversation, which the model gets."""
    (folder / "dot.gif").write_bytes(GIF)
    reply = calls(("readImageFile", {"path": "dot.gif"}))
    with project(folder, expert("desk"), desk=[reply, says("a dot")]) as here:
        ran, part = _reads(here, "dot.gif")
        same((part["type"], part["mimeType"]), ("imageInlinePart", "image/gif"), "the part")
        same(b64decode(part["encodedData"]), GIF, "the image")
        holds(
            part["encodedData"] in json.dumps(here.model.requests[-1].body), "the model has it not"
        )
        same(ran.end["text"], "a dot", "the answer")


@case()
def reads_a_pdf(folder: Path) -> None:
    """A PDF becomes a file of the conversation, which the model gets."""
    (folder / "page.pdf").write_bytes(PDF)
    reply = calls(("readPdfFile", {"path": "page.pdf"}))
    with project(folder, expert("desk"), desk=[reply, says("a page")]) as here:
        _, part = _reads(here, "page.pdf")
        same((part["type"], part["mimeType"]), ("fileInlinePart", "application/pdf"), "the part")
        holds(
            part["encodedData"] in json.dumps(here.model.requests[-1].body), "the model has it not"
        )
