"""`perstack run`: events on stdout, the outcome in the exit code and in one line on stderr."""

import io
import re

import pytest

from tests.cli.harness import DEFINITIONS, Stage, calls, done, process, says


def job_of(stderr: str) -> str:
    """The id of the job as the summary has it."""
    found = re.search(r"job (\w+)", stderr)
    assert found is not None
    return found[1]


def test_a_task_is_done_with_one_event_a_line(here: Stage) -> None:
    here.plays(a=[done("42")])
    out = here.runs("a", "the answer?")
    assert out.code == 0
    assert out.types[0] == "initializeRuntime"
    assert out.events[-1]["text"] == "42"
    assert out.events[-1]["checkpoint"]["status"] == "completed"


def test_the_summary_is_one_line_that_says_how_to_go_on(here: Stage) -> None:
    here.plays(a=[done("42")])
    out = here.runs("a", "the answer?")
    (line,) = out.stderr.splitlines()
    job = out.events[-1]["jobId"]
    assert line.startswith("perstack: completed; 1 step, ")
    assert f"job {job}; follow up: perstack run a ... --continue-job {job} --config" in line


def test_pieces_of_a_reply_are_streamed(here: Stage) -> None:
    here.plays(a=[says("a rather long answer in pieces")])
    out = here.runs("a", "q")
    pieces = [event["delta"] for event in out.events if event["type"] == "streamRunResult"]
    assert len(pieces) > 1
    assert "".join(pieces) == "a rather long answer in pieces"


def test_a_filter_prints_only_its_types_and_takes_replies_whole(here: Stage) -> None:
    here.plays(a=[says("a rather long answer in pieces")])
    assert here.runs("a", "q", "--filter", "startRun, completeRun").types == [
        "startRun",
        "completeRun",
    ]


def test_a_filter_may_name_streaming_types(here: Stage) -> None:
    here.plays(a=[says("short")])
    assert here.runs("a", "q", "--filter", "streamRunResult").types == ["streamRunResult"]


def test_a_mistyped_event_type_is_an_error_with_a_suggestion(here: Stage) -> None:
    out = here.runs("a", "q", "--filter", "completedRun")
    assert (out.code, out.stdout) == (2, "")
    assert "there is no event type 'completedRun'" in out.stderr
    assert "Did you mean completeRun?" in out.stderr


def test_a_failed_run_has_exit_code_1(here: Stage) -> None:
    here.plays(a=[{"error": {"message": "refused", "status": 401}}])
    out = here.runs("a", "q")
    assert out.code == 1
    assert out.types[-1] == "stopRunByError"
    assert "perstack: failed (refused" in out.stderr
    assert "resume: perstack run --continue-job" in out.stderr


def test_a_run_without_steps_left_has_exit_code_4_and_can_go_on(here: Stage) -> None:
    here.plays(a=[calls("todo", newTodos=["one"]), done("later"), done("later")])
    out = here.runs("a", "q", "--max-steps", "1")
    assert (out.code, out.types[-1]) == (4, "stopRunByExceededMaxSteps")
    again = here.runs("--continue")
    assert again.types[-1] in ("completeRun", "continueToNextStep", "stopRunByError")
    assert "--max-steps" not in again.stderr


def test_a_question_has_exit_code_3_and_is_answered_in_text(here: Stage) -> None:
    here.plays(a=[calls("askUser", text="Which colour?"), done("{{lastToolResult}} it is")])
    out = here.runs("a", "q")
    assert (out.code, out.types[-1]) == (3, "stopRunByInteractiveTool")
    assert "perstack: waiting for an answer (askUser: Which colour?)" in out.stderr
    job = job_of(out.stderr)
    assert f"answer: perstack run a ... -i --continue-job {job}" in out.stderr
    answered = here.runs("a", "blue", "-i", "--continue-job", job)
    assert (answered.code, answered.events[-1]["text"]) == (0, "blue it is")


@pytest.mark.parametrize(
    "wrong", ["green", '{"colour": "green"}', '{"toolCallId": "%s", "text": "x"}']
)
def test_choices_are_shown_and_another_answer_is_refused(here: Stage, wrong: str) -> None:
    toml = here.folder / "perstack.toml"
    schema = (
        '{"type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}}}'
    )
    answers = f"answerJsonSchema = '{schema}'"
    definitions = toml.read_text(encoding="utf-8").replace('"Ask."', f'"Ask."\n{answers}')
    toml.write_text(definitions, encoding="utf-8")
    here.plays(a=[calls("askUser", text="Which colour?"), done("{{lastToolResult}} it is")])
    out = here.runs("a", "q")
    if "%s" in wrong:
        wrong %= out.events[-1]["checkpoint"]["pendingToolCalls"][0]["id"]
    refused = here.runs("a", wrong, "-i", "--continue")
    answered = here.runs("a", "Blue", "-i", "--continue")
    assert "(askUser: Which colour? Answer with one of: red, blue.)" in out.stderr
    assert (refused.code, refused.stdout) == (2, "")
    assert "Answer with one of: red, blue." in refused.stderr
    assert (answered.code, answered.events[-1]["text"]) == (0, "blue it is")


def test_an_answer_may_name_the_call_that_it_is_for(here: Stage) -> None:
    here.plays(a=[calls("askUser", text="Which?"), done("{{lastToolResult}} it is")])
    out = here.runs("a", "q")
    (call,) = out.events[-1]["checkpoint"]["pendingToolCalls"]
    wrong = '{"toolCallId": "other", "text": "red"}'
    refused = here.runs("a", wrong, "-i", "--continue")
    assert refused.code == 2
    assert "no open question 'other'" in refused.stderr
    right = f'{{"toolCallId": "{call["id"]}", "text": "red"}}'
    assert here.runs("a", right, "-i", "--continue").events[-1]["text"] == "red it is"


@pytest.mark.parametrize("answer", ["blue", "-1", '{"toolCallId": "%s", "text": "blue"}', "x y"])
def test_one_word_after_the_option_is_the_answer(here: Stage, answer: str) -> None:
    here.plays(a=[calls("askUser"), says("{{lastToolResult}} it is")])
    stop = here.runs("a", "q").events[-1]
    if answer.startswith("{"):
        answer %= stop["checkpoint"]["pendingToolCalls"][0]["id"]
    out = here.runs("--continue-job", stop["jobId"], "-i", answer)
    assert (out.code, out.types[-1]) == (0, "completeRun")


@pytest.mark.parametrize("words", [("-",), ("a",), ("a", "-"), ()])
def test_an_answer_may_come_from_stdin(here: Stage, words: tuple[str, ...]) -> None:
    here.plays(a=[calls("askUser"), says("end")])
    job = here.runs("a", "q").events[-1]["jobId"]
    here.stdin = io.StringIO("blue\n")
    out = here.runs(*words, "--continue-job", job, "-i")
    results = next(event for event in out.events if event["type"] == "resolveToolResults")
    assert results["toolResults"][0]["result"][0]["text"] == "blue"


def test_an_expert_alone_is_no_answer(here: Stage) -> None:
    here.plays(a=[calls("askUser")])
    job = here.runs("a", "q").events[-1]["jobId"]
    out = here.runs("a", "--continue-job", job, "-i")
    assert (out.code, out.stdout) == (2, "")
    assert "Query is required." in out.stderr


def test_a_run_is_taken_up_with_its_query_or_its_answer(here: Stage) -> None:
    here.plays(a=[calls("x", query="go"), calls("askUser"), says("end")], a_x=[done("child")])
    out = here.runs("a", "the task")
    begun = [event for event in out.events if event["type"] == "initializeRuntime"]
    assert [event["query"] for event in begun] == ["the task", "go"]
    assert not any("interactiveToolCall" in event for event in begun)
    (asked,) = out.events[-1]["checkpoint"]["pendingToolCalls"]
    (begun, *_) = here.runs("-i", "--continue", "blue").events
    assert begun["interactiveToolCall"] == {
        "toolName": "askUser",
        "toolCallId": asked["id"],
        "text": "blue",
    }
    assert "query" not in begun


def test_the_base_skill_is_ready_in_each_run(here: Stage) -> None:
    here.plays(a=[calls("x", query="go"), says("end")], a_x=[done("child")])
    ready = [event for event in here.runs("a", "q").events if event["type"] == "skillConnected"]
    assert [event["skillName"] for event in ready] == ["@perstack/base"] * 2
    assert len({event["runId"] for event in ready}) == 2


@pytest.mark.parametrize("option", ["--job-id", "--run-id"])
@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a\nb", "\x1b[2J", "x" * 256, "\u202egnp", "\udce9"]
)
def test_an_id_that_nobody_could_repeat_is_refused(here: Stage, option: str, bad: str) -> None:
    here.plays(a=[says("first")])
    out = here.runs("a", "q", option, bad)
    assert (out.code, out.stdout) == (2, "")
    assert "An id has 1 to 255 printable characters without spaces." in out.stderr


@pytest.mark.parametrize("good", ["x" * 255, "job.1", "ünïcödé", "2024-01-01T00:00:00Z", "../up"])
def test_an_id_may_be_anything_else(here: Stage, good: str) -> None:
    here.plays(a=[says("first")])
    out = here.runs("a", "q", "--job-id", good, "--run-id", good)
    assert (out.code, out.events[-1]["jobId"], out.events[-1]["runId"]) == (0, good, good)
    assert here.logs("--job", good).code == 0
    assert here.logs("--checkpoint", out.events[-1]["checkpoint"]["id"]).code == 0


def test_a_stream_may_repeat_all_that_was_said_with_each_step(here: Stage) -> None:
    replies = [calls("x", query="go"), calls("todo", newTodos=["one"]), says("end")]
    here.plays(a=replies, a_x=[done("child")])
    out = here.runs("a", "q", "--wire", "full")
    assert out.code == 0
    sizes = [len(event["messages"]) for event in out.events if event["type"] == "startGeneration"]
    assert sizes == [2, 2, 4, 6]
    ends = [event for event in out.events if event["type"] == "continueToNextStep"]
    assert all({"checkpoint", "step", "nextCheckpoint"} <= event.keys() for event in ends)
    assert "finishAllToolCalls" in out.types
    assert "step" in out.events[-1]


def test_a_filter_of_a_full_stream_takes_its_types(here: Stage) -> None:
    replies = [calls("x", query="go"), says("end")]
    here.plays(a=replies, a_x=[done("child")])
    words = ("a", "q", "--wire", "full", "--filter", "finishAllToolCalls,completeRun")
    assert here.runs(*words).types == ["completeRun", "finishAllToolCalls", "completeRun"]


def test_a_stream_is_slim_unless_it_is_told_otherwise(here: Stage) -> None:
    here.plays(a=[calls("todo", newTodos=["one"]), says("end")])
    events = here.runs("a", "q").events
    assert not any("messages" in event for event in events)
    (end,) = [event for event in events if event["type"] == "continueToNextStep"]
    assert not {"checkpoint", "step", "nextCheckpoint"} & end.keys()
    assert "step" in events[-1]


def test_a_run_gets_the_id_it_is_given(here: Stage) -> None:
    here.plays(a=[says("first"), says("second")])
    first = here.runs("a", "q", "--run-id", "mine").events[-1]
    assert first["runId"] == "mine"
    again = here.runs("a", "q", "--run-id", "mine")
    assert again.code == 1
    assert "Run mine exists already, in another job." in again.stderr
    more = here.runs("a", "more", "--continue-job", first["jobId"], "--run-id", "next")
    assert (more.events[-1]["runId"], more.events[-1]["text"]) == ("next", "second")


def test_a_completed_job_takes_a_follow_up(here: Stage) -> None:
    here.plays(a=[says("first"), says("second to {{query}}")])
    job = here.runs("a", "q").events[-1]["jobId"]
    out = here.runs("a", "and now?", "--continue-job", job)
    assert out.events[-1]["text"] == "second to and now?"
    assert out.events[-1]["jobId"] == job


def test_a_completed_job_without_a_follow_up_stays_as_it_is(here: Stage) -> None:
    here.plays(a=[says("first")])
    here.runs("a", "q")
    out = here.runs("--continue")
    assert (out.code, out.stdout) == (0, "")
    assert "perstack: completed" in out.stderr


def test_a_job_branches_from_a_checkpoint(here: Stage) -> None:
    here.plays(a=[calls("todo", newTodos=["one"]), says("first"), says("never")])
    events = here.runs("a", "q").events
    after_tool = next(event for event in events if event["type"] == "continueToNextStep")
    out = here.runs("--continue-job", after_tool["jobId"], "--resume-from", after_tool["id"])
    assert (out.code, out.events[-1]["text"]) == (0, "first")
    assert out.events[-1]["checkpoint"]["parentCheckpointId"] == after_tool["id"]


def test_a_new_job_gets_the_id_it_is_given(here: Stage) -> None:
    here.plays(a=[says("first")])
    assert here.runs("a", "q", "--job-id", "mine").events[-1]["jobId"] == "mine"
    again = here.runs("a", "q", "--job-id", "mine")
    assert again.code == 2
    assert "Job mine exists already" in again.stderr


@pytest.mark.parametrize("words", [("a", "-"), ("a",)])
def test_the_query_may_come_from_stdin(here: Stage, words: tuple[str, ...]) -> None:
    here.plays(a=[says("you said {{query}}")])
    here.stdin = io.StringIO("hello\n")
    assert here.runs(*words).events[-1]["text"] == "you said hello"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "Expert key is required."),
        (("a",), "Query is required."),
        (("a", ""), "Query is required."),
        (("b", "q"), "Expert 'b' is not defined."),
        (("a", "q", "--resume-from", "x"), "--resume-from requires --continue-job."),
        (("a", "q", "--continue", "--job-id", "x"), "--job-id names a new job"),
        (("a", "q", "-i"), "--interactive-tool-call-result requires --continue"),
        (("--continue",), "No checkpoint found"),
        (("--continue-job", "nowhere"), "nowhere"),
        (("a", "q", "--env-path", "nowhere.env"), "nowhere.env"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    here: Stage, words: tuple[str, ...], complaint: str
) -> None:
    here.plays(a=[])
    out = here.runs(*words)
    assert (out.code, out.stdout) == (2, "")
    assert complaint in out.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--max-steps", "many"),
        ("--max-steps", "0"),
        ("--max-retries", "-1"),
        ("--timeout", "1.5"),
        ("--reasoning-budget", "huge"),
        ("--continue", "--continue-job", "x"),
        ("--nonsense",),
    ],
)
def test_unreadable_options_are_errors(
    here: Stage, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.runs("a", "q", *words).code == 2
    assert ": error: " in capsys.readouterr().err


def test_a_missing_key_is_a_matter_of_configuration(here: Stage) -> None:
    out = here.runs("a", "q", "--provider", "anthropic", "--model", "claude-sonnet-4-5")
    assert out.code == 2
    assert "ANTHROPIC_API_KEY" in out.stderr


def test_the_command_works_as_a_process(here: Stage) -> None:
    here.plays(a=[says("hello")])
    out = process("run", "a", "q", "--filter", "completeRun", cwd=here.folder)
    assert (out.code, out.types) == (0, ["completeRun"])


TYPED = """
[experts."a".tool.inputSchema]
type = "object"
required = ["path"]
[experts."a".tool.inputSchema.properties]
path = { type = "string" }
pages = { type = "integer", default = 3 }

[experts."a".tool.outputSchema]
type = "object"
required = ["total"]
"""


def declare(here: Stage) -> None:
    with (here.folder / "perstack.toml").open("a", encoding="utf-8") as file:
        file.write(TYPED)


def test_typed_input_becomes_the_query_and_the_answer_is_a_value(here: Stage) -> None:
    declare(here)
    here.plays(a=[calls("attemptCompletion", result={"total": 1, "said": "{{query}}"})])
    out = here.runs("a", "--input", '{"path": "ä.pdf"}', "--filter", "completeRun")
    (event,) = out.events
    assert event["output"]["total"] == 1
    assert event["output"]["said"] == 'Input: {"path": "ä.pdf", "pages": 3}'


def test_typed_input_may_stand_in_a_file_and_beside_a_query(here: Stage) -> None:
    declare(here)
    (here.folder / "input.json").write_text('{"path": "a.pdf", "pages": 1}', encoding="utf-8")
    here.plays(a=[calls("attemptCompletion", result={"total": "{{query}}"})])
    out = here.runs("a", "Be brief.", "--input", f"@{here.folder / 'input.json'}")
    told = 'Be brief.\n\nInput: {"path": "a.pdf", "pages": 1}'
    assert out.events[-1]["output"] == {"total": told}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a", "--input", "{"), "no JSON object.\n  Write --input '{"),
        (("a", "--input", "[]"), "--input is no JSON object."),
        (("a", "--input", "@no.json"), "--input: no.json cannot be read: No such file"),
        (("a", "--input", '{"pages": "x"}'), "path is missing; pages must be an integer."),
        (("a", "--input", "{}"), "path is missing.\n  The input of a has: path, pages."),
        (("@a/x", "--input", "{}"), "Expert '@a/x' takes no input but its query."),
        (("a", "q", "-i", "--continue", "--input", "{}"), "do not go together"),
    ],
)
def test_input_that_does_not_fit_is_an_error(
    here: Stage, words: tuple[str, ...], reason: str
) -> None:
    declare(here)
    here.plays(a=[])
    out = here.runs(*words)
    assert (out.code, out.stdout) == (2, "")
    assert reason in out.stderr


def test_a_model_that_stands_in_is_told_in_the_stream_the_log_and_a_replay(here: Stage) -> None:
    file = here.folder / "perstack.toml"
    fallback = '[[fallbacks]]\nmodel = "spare"\n'
    file.write_text(f"maxRetries = 0\n{fallback}{DEFINITIONS}", encoding="utf-8")
    here.plays(a=[{**says("made it"), "error": {"status": 503, "times": 1}}])
    out = here.runs("a", "go")
    [retry] = [event for event in out.events if event["type"] == "retry"]
    assert retry["fallback"] == {"provider": "scripted", "model": "spare", "contextWindow": 200_000}
    assert (retry["maxRetries"], retry["error"]["statusCode"]) == (0, 503)
    assert out.events[-1]["text"] == "made it"
    assert "  ↷ spare of scripted stands in" in here.logs().stdout.splitlines()
    replayed = here.types("replay", "--workspace", str(here.folder), "--config", str(here.folder))
    assert (replayed.code, replayed.stderr) == (0, "")
