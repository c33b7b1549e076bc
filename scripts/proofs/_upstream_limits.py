"""Limits, retries, thinking, providers, and the order of what is streamed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _upstream_shapes import STREAMING_EVENTS
from _upstream_stage import MODELS, calls, case, done, expert, holds, project, same, says

from tests.model_server import Reply
from tests.model_server.fault import Cut, Hang, HttpError
from tests.model_server.reply import Usage

DESK = expert("desk")
NOTHING = says("")
LEVELS = ("minimal", "low", "medium", "high")


@case("exit-codes")
def max_steps(folder: Path) -> None:
    """A job that has used its steps stops, with a status and an exit code of its own."""
    with project(folder, DESK, desk=[calls(("todo", {"newTodos": ["x"]}))] * 2) as here:
        ran = here.run("desk", "Go on.", "--max-steps", "2")
        same((ran.code, ran.end["type"]), (4, "stopRunByExceededMaxSteps"), "the end")
        same(ran.end["checkpoint"]["status"], "stoppedByExceededMaxSteps", "the status")
        same(ran.end["checkpoint"]["stepNumber"], 2, "the last step")
        same(len(here.model.requests), 2, "generations")


@case("step-numbers")
def steps_are_counted_over_delegates(folder: Path) -> None:
    """The steps of delegates count, and have numbers of their own, also side by side."""
    toml = "\n".join(
        [
            expert("desk", 'delegates = ["@desk/one", "@desk/two"]'),
            expert("@desk/one"),
            expert("@desk/two"),
        ]
    )
    both = calls(("one", {"query": "a"}), ("two", {"query": "b"}))
    with project(folder, toml, desk=[both, done()], one=[done("1")], two=[done("2")]) as here:
        ran = here.completes("desk", "Go.", "--max-steps", "4")
        numbers = [each["stepNumber"] for each in ran.of("startGeneration")]
        same(sorted(numbers), [1, 2, 3, 4], "step numbers")


@case("additions", "exit-codes")
def interrupted(folder: Path) -> None:
    """SIGINT stops a job at once, and it goes on from there."""
    with project(folder, DESK, desk=[Hang(), done("after all")]) as here:
        ran = here.interrupt("desk", "Take your time.")
        same((ran.code, ran.end["type"]), (130, "stopRunByCancellation"), "the end")
        same(ran.end["checkpoint"]["status"], "stoppedByCancellation", "the status")
        again = here.completes("--continue-job", ran.job)
        same((again.types[1], again.end["text"]), ("resumeFromStop", "after all"), "what follows")
        same(again.end["runId"], ran.end["runId"], "the run")


@case()
def within_limits(folder: Path) -> None:
    """A job that needs fewer steps than it may use completes."""
    with project(folder, DESK, desk=[done("hello")]) as here:
        words = ("--max-steps", "10", "--max-retries", "3", "--timeout", "120000")
        ran = here.completes("desk", "Say hello.", *words)
        begun = ran.one("initializeRuntime")
        seen = (begun["maxSteps"], begun["maxRetries"], begun["timeout"])
        same(seen, (10, 3, 120000), "what the run is told to keep to")


@case()
def useless_replies(folder: Path) -> None:
    """Replies without a text or a call are asked for again, then the run stops by an error."""
    with project(folder, DESK, desk=[NOTHING] * 3) as here:
        ran = here.run("desk", "Go.", "--max-retries", "2")
        same((ran.code, ran.end["type"], len(ran.of("retry"))), (1, "stopRunByError", 2), "the end")
        same(ran.end["error"]["name"], "MaxRetriesExceeded", "the error")
        told = ran.of("retry")[0]["newMessages"]
        holds(told and told[-1]["type"] == "userMessage", "the model is not told what was wrong")


@case("retries")
def outages(folder: Path) -> None:
    """A provider that fails for a moment is asked again within the step, and the run completes."""
    with project(folder, DESK, desk=[HttpError(503), HttpError(529), done("at last")]) as here:
        ran = here.completes("desk", "Go.")
        retries = ran.of("retry")
        same([each["stepNumber"] for each in retries], [1, 1], "the step")
        same({each["error"]["isRetryable"] for each in retries}, {True}, "retryable")
        same(ran.end["stepNumber"], 1, "the last step")
        holds(not any(each["newMessages"] for each in retries), "the model is told of it")


@case()
def broken_streams(folder: Path) -> None:
    """A reply that breaks off in the middle is not taken for a whole one."""
    with project(folder, DESK, desk=[Cut(says("half of it"), 2), says("all of it")]) as here:
        ran = here.completes("desk", "Go.")
        same((ran.end["text"], len(ran.of("retry"))), ("all of it", 1), "the answer")


@case()
def cut_off_by_length(folder: Path) -> None:
    """A reply that ran out of room is asked for again, with a reason."""
    with project(folder, DESK, desk=[says("", finish="length"), says("short")]) as here:
        ran = here.completes("desk", "Go.")
        holds(ran.one("retry")["reason"], "no reason is given")


@case()
def timeouts(folder: Path) -> None:
    """A generation that takes longer than `--timeout` fails, and is tried again."""
    with project(folder, DESK, desk=[Hang(), done("there")]) as here:
        ran = here.completes("desk", "Go.", "--timeout", "1500")
        holds(ran.one("retry")["error"]["isRetryable"], str(ran.one("retry")))


def _thinking_asked(folder: Path, provider: str, levels: Sequence[str]) -> list[dict[str, Any]]:
    """The bodies of the requests with these reasoning budgets."""
    with project(folder, DESK, provider=provider, desk=[done()] * len(levels)) as here:
        for level in levels:
            here.completes("desk", "Calculate.", "--reasoning-budget", level)
        return [request.body for request in here.model.requests]


@case()
def thinking_of_anthropic(folder: Path) -> None:
    """Each reasoning budget is so many thinking tokens for Anthropic, and none is none."""
    bodies = _thinking_asked(folder, "anthropic", [*LEVELS, "3000", "none"])
    budgets = [body.get("thinking", {}).get("budget_tokens") for body in bodies]
    same(budgets, [1024, 2048, 5000, 10000, 3000, None], "budgets")


@case()
def effort_of_openai(folder: Path) -> None:
    """Each reasoning budget is an effort for OpenAI."""
    bodies = _thinking_asked(folder, "openai", [*LEVELS, "6000"])
    efforts = [body.get("reasoning_effort") or body["reasoning"]["effort"] for body in bodies]
    same(efforts[1:], ["low", "medium", "high", "high"], "efforts")
    holds(efforts[0] in ("minimal", "low"), f"the least: {efforts[0]}")


@case()
def thinking_of_google(folder: Path) -> None:
    """Each reasoning budget is so many thinking tokens for Google, and thoughts are asked for."""
    bodies = _thinking_asked(folder, "google", LEVELS)
    wanted = [body["generationConfig"]["thinkingConfig"] for body in bodies]
    same([each["thinkingBudget"] for each in wanted], [1024, 2048, 5000, 10000], "budgets")
    same({each["includeThoughts"] for each in wanted}, {True}, "thoughts")


@case()
def thinking_is_sent_back(folder: Path) -> None:
    """Thinking becomes a part of its message, and goes back with its signature."""
    reply = calls(("todo", {}), thinking="let me see", signature="c2lnbmVk")
    with project(folder, DESK, desk=[reply, done()]) as here:
        ran = here.completes("desk", "Go.", "--reasoning-budget", "medium")
        parts = ran.of("callTools")[0]["newMessage"]["contents"]
        same(parts[0]["type"], "thinkingPart", "the first part")
        back = str(here.model.requests[1].body["messages"])
        holds("let me see" in back and "c2lnbmVk" in back, "it does not go back")


@case()
def tokens_of_reasoning(folder: Path) -> None:
    """The tokens that went into reasoning are counted where the provider tells them."""
    reply = Reply("4", thinking="two and two", usage=Usage(reasoning_tokens=5))
    with project(folder, DESK, provider="openai", desk=[reply]) as here:
        ran = here.completes("desk", "Calculate.", "--reasoning-budget", "low")
        same(ran.end["checkpoint"]["usage"]["reasoningTokens"], 5, "reasoning tokens")


@case()
def providers(folder: Path) -> None:
    """One definition runs with every provider that serves over HTTP."""
    for number, provider in enumerate(MODELS):
        place = folder / str(number)
        place.mkdir()
        reply = [calls(("readTextFile", {"path": "perstack.toml"})), says(f"by {provider}")]
        with project(place, DESK, provider=provider, desk=reply) as here:
            ran = here.completes("desk", "Read.")
            same(ran.end["text"], f"by {provider}", "the answer")
            same(ran.end["checkpoint"]["provider"], provider, "who generated")


STREAMED = Reply("It is four, I think.", thinking="Two and two is", pieces=4)


@case()
def order_of_a_stream(folder: Path) -> None:
    """Reasoning begins, streams and completes before the result does, and all before the end."""
    with project(folder, DESK, desk=[STREAMED]) as here:
        ran = here.completes("desk", "2+2", "--reasoning-budget", "low")
        types = [kind for kind in ran.types if kind in STREAMING_EVENTS or kind == "completeRun"]
        order: list[str] = []
        for kind in types:
            if order[-1:] != [kind]:
                order.append(kind)
        same(order, [*STREAMING_EVENTS, "completeRun"], "the order")
        for kind, whole in (("Reasoning", STREAMED.thinking), ("RunResult", STREAMED.text)):
            deltas = [event["delta"] for event in ran.of(f"stream{kind}")]
            holds(len(deltas) > 1 and all(deltas), f"deltas of {kind}: {deltas}")
            same("".join(deltas), whole, f"all of {kind}")
            same(ran.one(f"completeStreaming{kind}")["text"], whole, f"the text of {kind}")


@case()
def no_stream_of_thoughts(folder: Path) -> None:
    """Without thinking there is nothing of reasoning in the stream."""
    with project(folder, DESK, desk=[says("hello")]) as here:
        ran = here.completes("desk", "Hello.", "--reasoning-budget", "none")
        holds(not [kind for kind in ran.types if "Reasoning" in kind], "it streams reasoning")
        holds("streamRunResult" in ran.types, "it does not stream the result")


@case()
def calls_are_not_streamed(folder: Path) -> None:
    """Calls of tools come whole."""
    with project(folder, DESK, desk=[calls(("todo", {})), done()]) as here:
        ran = here.completes("desk", "Go.")
        same([kind for kind in ran.types if kind in STREAMING_EVENTS], [], "what is streamed")


@case()
def filtered(folder: Path) -> None:
    """`--filter` prints these types only, in their order."""
    with project(folder, DESK, desk=[calls(("todo", {})), done()]) as here:
        ran = here.run("desk", "Go.", "--filter", "completeRun,callTools", wire="slim")
        same(ran.types, ["callTools", "callTools", "completeRun"], "types")


@case("slim-stream")
def slim(folder: Path) -> None:
    """Without `--wire full` a stream does not repeat the conversation, and says the same."""
    with project(folder, DESK, desk=[calls(("todo", {})), done()] * 2) as here:
        slim_run = here.run("desk", "Go.", wire="slim")
        full_run = here.completes("desk", "Go.")
        same(slim_run.types, full_run.types, "types")
        repeated = {"messages", "nextCheckpoint"} & {
            key for each in slim_run.events for key in each
        }
        same(repeated, set[str](), "what is repeated")
        for one, other in zip(slim_run.events, full_run.events, strict=True):
            holds(one.keys() <= other.keys(), f"{one['type']} has less in full")
