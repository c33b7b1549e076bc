"""Experts that call experts: in a row, side by side, with a failure among them, and again later."""

from pathlib import Path

from _upstream_stage import (
    calls,
    case,
    done,
    expert,
    holds,
    project,
    question,
    result_texts,
    said_to,
    same,
    says,
)

from tests.model_server.fault import HttpError, Slow

CHAIN = "\n".join(
    [
        expert("desk", 'delegates = ["@desk/clerk"]'),
        expert("@desk/clerk", 'delegates = ["@desk/archive"]'),
        expert("@desk/archive"),
    ]
)
PAIR = "\n".join(
    [
        expert("desk", 'delegates = ["@desk/sums", "@desk/words"]'),
        expert("@desk/sums"),
        expert("@desk/words"),
    ]
)
BOTH = calls(("sums", {"query": "Add 2 and 3."}), ("words", {"query": "Turn abc round."}))
TURNS = ("startRun", "callDelegate", "stopRunByDelegate", "resumeFromStop", "completeRun")


@case("stable-runs")
def chain(folder: Path) -> None:
    """Three experts in a row begin from the first on and end from the last on."""
    with project(
        folder,
        CHAIN,
        desk=[calls(("clerk", {"query": "Fetch the file."})), done("here you are")],
        clerk=[calls(("archive", {"query": "File 7."})), done("fetched")],
        archive=[done("file 7")],
    ) as here:
        ran = here.completes("desk", "I need file 7.")
        same(
            ran.sequence(*TURNS),
            [
                *("startRun:desk", "callDelegate:desk", "stopRunByDelegate:desk"),
                *("startRun:@desk/clerk", "callDelegate:@desk/clerk"),
                *("stopRunByDelegate:@desk/clerk", "startRun:@desk/archive"),
                *("completeRun:@desk/archive", "resumeFromStop:@desk/clerk"),
                *("completeRun:@desk/clerk", "resumeFromStop:desk", "completeRun:desk"),
            ],
            "the course",
        )
        same(ran.end["text"], "here you are", "the answer")
        same(len({event["runId"] for event in ran.events}), 3, "run ids")
        holds(not ran.of("retry"), "something was retried")


@case()
def answers_pass_up(folder: Path) -> None:
    """The answer of a delegate is the result of the call, and a delegate sees its query alone."""
    with project(
        folder,
        CHAIN,
        desk=[calls(("clerk", {"query": "Fetch the file."})), done("here")],
        clerk=[calls(("archive", {"query": "File 7."})), done("fetched")],
        archive=[done("file 7")],
    ) as here:
        ran = here.completes("desk", "I need file 7.")
        answers = [result_texts(each["toolResults"]) for each in ran.of("resolveToolResults")]
        same(answers, [["file 7"], ["fetched"]], "results")
        archive = here.model.requests[2]
        same(said_to(archive), ["File 7."], "what the last expert was told")


@case()
def delegated_by(folder: Path) -> None:
    """A delegated run begins with the call, run and checkpoint that it answers."""
    with project(folder, PAIR, desk=[BOTH, done()], sums=[done("5")], words=[done("cba")]) as here:
        ran = here.completes("desk", "Do both.")
        stop = ran.one("stopRunByDelegate")
        children = [each["initialCheckpoint"] for each in ran.of("startRun")[1:]]
        for child in children:
            above = child["delegatedBy"]
            same(above["runId"], stop["runId"], "the run above")
            same(above["checkpointId"], stop["checkpoint"]["id"], "its checkpoint")
            same(above["expert"]["key"], "desk", "its expert")
        queries = {each["query"] for each in stop["checkpoint"]["delegateTo"]}
        same(queries, {"Add 2 and 3.", "Turn abc round."}, "queries")


@case()
def side_by_side(folder: Path) -> None:
    """Delegates of one message run side by side, and answer in the order of their calls."""
    slow = [Slow(done(text), before_seconds=0.5) for text in ("5", "cba")]
    with project(folder, PAIR, desk=[BOTH, done("5, cba")], sums=slow[:1], words=slow[1:]) as here:
        ran = here.completes("desk", "Do both.")
        called = ran.one("callDelegate")
        same([each["toolName"] for each in called["toolCalls"]], ["sums", "words"], "calls")
        same(len(ran.of("stopRunByDelegate")), 1, "stops")
        types = [kind for kind in ran.types if kind in ("startRun", "completeRun")]
        same(types[:3], ["startRun"] * 3, "both run before one ends")
        (resolved,) = ran.of("resolveToolResults")
        same(result_texts(resolved["toolResults"]), ["5", "cba"], "results")


@case()
def names_of_delegates(folder: Path) -> None:
    """A delegate stands for a skill of its calls as `delegate/` and its key."""
    with project(folder, PAIR, desk=[BOTH, done()], sums=[done("5")], words=[done("cba")]) as here:
        ran = here.completes("desk", "Do both.")
        told = [
            *ran.one("callDelegate")["toolCalls"],
            *ran.one("stopRunByDelegate")["checkpoint"]["pendingToolCalls"],
            *ran.one("resolveToolResults")["toolResults"],
        ]
        wanted = {"delegate/@desk/sums", "delegate/@desk/words"}
        same({each["skillName"] for each in told}, wanted, "skill names")


@case()
def results_after_delegates(folder: Path) -> None:
    """Once delegates have answered, `finishAllToolCalls` has the message of their results."""
    with project(folder, PAIR, desk=[BOTH, done()], sums=[done("5")], words=[done("cba")]) as here:
        ran = here.completes("desk", "Do both.")
        (message,) = ran.one("finishAllToolCalls")["newMessages"]
        same(message["type"], "toolMessage", "the message")
        names = [part["toolName"] for part in message["contents"]]
        same(names, ["sums", "words"], "whose results they are")
        (again,) = [each for each in ran.end["checkpoint"]["messages"] if each == message]
        same(again["id"], message["id"], "the message in the last checkpoint")


@case()
def tokens_add_up(folder: Path) -> None:
    """The tokens of all steps are those of all runs, each counted once."""
    with project(folder, PAIR, desk=[BOTH, done()], sums=[done("5")], words=[done("cba")]) as here:
        ran = here.completes("desk", "Do both.")
        steps = sum(each["step"]["usage"]["inputTokens"] for each in ran.events if "step" in each)
        runs = sum(each["checkpoint"]["usage"]["inputTokens"] for each in ran.of("completeRun"))
        sent = 11 * len(here.model.requests)
        same((steps, runs), (sent, sent), "input tokens")


@case()
def failing_delegate(folder: Path) -> None:
    """A delegate that fails is an error text for its caller, and the others answer all the same."""
    with project(
        folder,
        PAIR,
        desk=[BOTH, done("only cba")],
        sums=[HttpError(400, "out of order")],
        words=[done("cba")],
    ) as here:
        ran = here.completes("desk", "Do both.")
        failed = ran.one("stopRunByError")
        same(failed["expertKey"], "@desk/sums", "who failed")
        first, second = ran.one("resolveToolResults")["toolResults"]
        holds("out of order" in result_texts([first])[0], f"the caller reads {first['result']}")
        same(result_texts([second]), ["cba"], "the other result")


@case()
def no_questions_below(folder: Path) -> None:
    """A delegate has no tool that asks the user."""
    toml = "\n".join(
        [
            expert("desk", 'delegates = ["@desk/clerk"]'),
            expert("@desk/clerk"),
            question("@desk/clerk"),
        ]
    )
    with project(
        folder, toml, desk=[calls(("clerk", {"query": "Ask."})), done()], clerk=[done("nobody")]
    ) as here:
        here.completes("desk", "Go.")
        holds("askUser" not in here.model.requests[1].tool_names, "it may ask the user")


@case()
def follow_up(folder: Path) -> None:
    """A job with delegates goes on with a further query, and knows what they answered."""
    with project(
        folder,
        PAIR,
        desk=[BOTH, done("5, cba"), says("five and cba")],
        sums=[done("5")],
        words=[done("cba")],
    ) as here:
        first = here.completes("desk", "Do both.")
        ran = here.completes("desk", "In one sentence.", "--continue-job", first.job)
        same(ran.sequence("startRun", "completeRun"), ["startRun:desk", "completeRun:desk"], "runs")
        same(said_to(here.model.requests[-1])[0], "Do both.", "the first request")
        told = [each.text for each in here.model.requests[-1].messages if each.role == "tool"]
        same(told[:2], ["5", "cba"], "results that it knows")


@case()
def unknown_delegate(folder: Path) -> None:
    """A delegate that is not defined is refused by name before anything runs."""
    with project(folder, expert("desk", 'delegates = ["@desk/nobody"]'), desk=[done()]) as here:
        ran = here.run("desk", "Go.")
        holds(ran.code != 0 and "@desk/nobody" in ran.stderr, ran.stderr)
        same((ran.stdout, len(here.model.requests)), ("", 0), "what happened")


@case()
def branch_of_a_delegation(folder: Path) -> None:
    """From the stop that waits for delegates, a branch calls them in runs of their own."""
    with project(
        folder,
        PAIR,
        desk=[BOTH, done("trunk"), done("branch")],
        sums=[done("5"), done("6")],
        words=[done("cba"), done("fed")],
    ) as here:
        first = here.completes("desk", "Do both.")
        stop = first.one("stopRunByDelegate")["checkpoint"]["id"]
        again = here.completes("--continue-job", first.job, "--resume-from", stop)
        same(again.end["text"], "branch", "the answer")
        both = {event["runId"] for event in first.events} & {each["runId"] for each in again.events}
        same(both, set[str](), "runs that trunk and branch share")
        (resolved,) = again.of("resolveToolResults")
        same(sorted(result_texts(resolved["toolResults"])), ["6", "fed"], "results")
        same(again.end["checkpoint"]["parentCheckpointId"], stop, "where the branch begins")
