"""Results that are long, odd or unfinished, and the lines that clients see while they wait."""

from dataclasses import replace
from typing import Any

import pytest
from mcp_types import (
    Annotations,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from perstack.core import events as ev
from perstack.core import transient_events
from perstack.core.checkpoint import Checkpoint, Job, JobStatus
from perstack.core.elicitation import question_from_call
from perstack.core.events import ExpertRef, Stamp
from perstack.core.messages import (
    Citation,
    ExpertMessage,
    FileInlinePart,
    ImageInlinePart,
    Message,
    TextPart,
    ToolCall,
    ToolCallPart,
    Usage,
    UserMessage,
    text_result,
)
from perstack.core.transient_events import PerstackEvent
from perstack.errors import StoreError
from perstack.jobs import JobView
from perstack.server.caller import Caller
from perstack.server.summaries import PUBLIC_STATUS, progress_message
from perstack.server.tools.results import (
    MAX_MEDIA_CHARACTERS,
    error_result,
    job_result,
    jobs_result,
    strip_unsupported,
)
from perstack.server.tools.schemas import STATUSES
from perstack.server.tools.truncation import DEFAULT_BUDGET, budget_for
from tests.server.harness import facts, texts

TRACE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def job_view(
    text: str = "",
    *,
    status: JobStatus = "completed",
    questions: tuple[ToolCall, ...] = (),
    trace_parent: str | None = None,
    messages: tuple[Message, ...] = (),
) -> JobView:
    return JobView(
        job=Job(
            id="job1",
            status=status,
            coordinator_expert_key="@a/x",
            started_at=0,
            updated_at=0,
            query="q" * 500,
        ),
        checkpoint=Checkpoint(
            id="run1-3",
            job_id="job1",
            run_id="run1",
            step_number=1,
            step_limit=9,
            expert=ExpertRef(key="@a/x", name="@a/x", version="1.0.0"),
            provider="scripted",
            model="m",
            trace_parent=trace_parent,
            messages=messages,
            started_at=0,
            updated_at=0,
        ),
        text=text,
        questions=tuple(question_from_call(call) for call in questions),
        usage=Usage(input_tokens=3),
        runs=(),
    )


def test_images_and_files_that_a_model_made_come_with_its_answer() -> None:
    small = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
    large = ImageInlinePart(encoded_data="A" * (MAX_MEDIA_CHARACTERS + 1), mime_type="image/png")
    table = FileInlinePart(encoded_data="YQ==", mime_type="text/csv")
    messages = (
        ExpertMessage(contents=(large,)),
        UserMessage(contents=(TextPart(text="draw"),)),
        ExpertMessage(contents=(small, table)),
        ExpertMessage(contents=(TextPart(text="drawn"), large)),
    )

    first = job_result(job_view("drawn", messages=messages))
    further = job_result(job_view("drawn", messages=messages), offset=2)
    running = job_result(job_view("drawn", messages=messages, status="running"))

    assert [block for block in first.content if isinstance(block, ImageContent)] == [
        ImageContent(type="image", data="iVBORw0KGgo=", mime_type="image/png")
    ]
    assert [block.resource for block in first.content if isinstance(block, EmbeddedResource)] == [
        BlobResourceContents(
            uri="perstack://jobs/job1/result#file-2", mime_type="text/csv", blob="YQ=="
        )
    ]
    assert texts(first)[2:] == ["[content of type image/png]"]
    for other in (further, running):
        kinds = (ImageContent, EmbeddedResource)
        assert not any(isinstance(block, kinds) for block in other.content)


def test_the_pages_that_an_answer_cites_are_named_once() -> None:
    sun = Citation(url="https://sun.example", title="Sun", start=0, end=5)
    untitled = Citation(url="https://sky.example")
    text = TextPart(text="It is hot.", citations=(sun, sun, untitled, Citation(title="no page")))
    messages = (ExpertMessage(contents=(text,)),)

    result = job_result(job_view("It is hot.", messages=messages))
    running = job_result(job_view("It is hot.", messages=messages, status="running"))

    assert facts(result)["sources"] == [
        {"url": "https://sun.example", "title": "Sun"},
        {"url": "https://sky.example", "title": ""},
    ]
    assert texts(result)[1] == "Sources:\n- Sun: https://sun.example\n- https://sky.example"
    assert "sources" not in facts(running)


def test_many_sources_do_not_make_a_result_too_long_for_a_client() -> None:
    cited = tuple(Citation(url=f"https://{number}.example/{'x' * 80}") for number in range(100))
    messages = (ExpertMessage(contents=(TextPart(text="a", citations=cited),)),)
    budget = budget_for("codex")

    result = job_result(job_view("a" * 50_000, messages=messages), budget=budget)

    assert sum(len(block.encode()) for block in texts(result)) < 12_000
    assert len(facts(result)["sources"]) > 10


def test_a_long_text_comes_in_pieces_that_lose_nothing() -> None:
    text = "".join(chr(97 + index % 26) for index in range(100_000))
    read = ""
    while len(read) < len(text):
        result = job_result(job_view(text), offset=len(read))
        assert facts(result)["text"] == texts(result)[0]
        assert all(len(block) < 40_000 for block in texts(result))
        piece, _, note = texts(result)[0].partition("\n[")
        read += piece
        if len(read) < len(text):
            assert f"perstack_job with this job_id and offset={len(read)} returns" in note
    assert read == text


def test_the_first_piece_of_a_long_text_has_its_end_too() -> None:
    text = "".join(chr(97 + index % 26) for index in range(100_000)) + " That is all."
    shown = texts(job_result(job_view(text)))[0]
    assert shown.startswith(text[:20_000])
    assert shown.endswith(text[-5_000:])
    assert " of 100,013 are left out here. The whole text is the resource" in shown
    assert "perstack://jobs/job1/result" in shown


@pytest.mark.parametrize("letter", ["語", "😀", "é"])
def test_letters_that_cost_more_tokens_fill_a_result_sooner(letter: str) -> None:
    text = letter * 90_000
    read = 0
    while read < len(text):
        shown = texts(job_result(job_view(text), offset=read))[0]
        assert len(shown.encode()) < 46_000
        read += len(shown.partition("\n[")[0])
    assert read == len(text)


def test_a_client_that_takes_less_is_given_less() -> None:
    room = budget_for("codex-mcp-client")
    text = "".join(f"Line {number}\n" for number in range(9_000))
    read = ""
    while len(read) < len(text):
        shown = texts(job_result(job_view(text), offset=len(read), budget=room))[0]
        assert len(shown) < 10_000
        read += shown.partition("\n[")[0]
    assert read == text
    answer = job_result(typed('"' + "v" * 5_000 + '"'), budget=room)
    assert len(str(answer.structured_content)) < 10_000
    assert budget_for("claude-code") == budget_for("") == DEFAULT_BUDGET


def test_the_text_of_an_error_stays_below_what_clients_cut() -> None:
    text = "e" * 20_000
    result = job_result(job_view(text, status="stoppedByError"))
    assert sum(map(len, texts(result))) < 11_000
    assert sum(map(len, texts(error_result(StoreError(text), "job1")))) < 11_000
    assert sum(map(len, texts(error_result(StoreError(text))))) < 11_000


def test_a_value_is_not_told_twice_when_it_is_long() -> None:
    short, long, longer = ('"' + "v" * size + '"' for size in (100, 20_000, 90_000))
    assert facts(job_result(typed(short)))["text"] == short
    repeated = facts(job_result(typed(long)))
    assert repeated["output"] == "v" * 20_000
    assert len(repeated["text"]) < 100
    assert texts(job_result(typed(long)))[0] == long
    cut = facts(job_result(typed(longer)))
    assert "output" not in cut
    assert "perstack://jobs/job1/result" in cut["text"]


def typed(text: str) -> JobView:
    view = job_view(text)
    checkpoint = view.checkpoint.model_copy(update={"text": text, "is_typed": True})
    return replace(view, checkpoint=checkpoint)


def test_an_answer_has_a_link_to_all_of_it_for_people() -> None:
    result = job_result(job_view("Grüße."))
    link = result.content[-1]
    assert isinstance(link, ResourceLink)
    assert link.uri == "perstack://jobs/job1/result"
    assert link.size == len("Grüße.".encode())
    assert link.annotations == Annotations(audience=["user"], priority=0.2)
    running = job_result(job_view("so far", status="running")).content
    assert all(isinstance(block, TextContent) for block in running)
    cut = job_result(job_view("x" * 50_000, status="running")).content
    assert isinstance(cut[-1], ResourceLink)


@pytest.mark.parametrize(
    "caller",
    [Caller(has_links=False), Caller(scopes=frozenset({"perstack:run:writer"}))],
    ids=["an old protocol", "no scope for jobs"],
)
def test_who_cannot_follow_a_link_gets_none(caller: Caller) -> None:
    result = job_result(job_view("Well."))
    assert strip_unsupported(Caller(), result) is result
    assert texts(strip_unsupported(caller, result)) == texts(result)
    assert all(
        isinstance(block, TextContent) for block in strip_unsupported(caller, result).content
    )


def test_an_offset_behind_the_end_gives_no_text() -> None:
    assert facts(job_result(job_view("short"), offset=10))["text"] == ""


def test_half_of_a_character_is_replaced() -> None:
    result = job_result(job_view("a\ud800b"))
    assert texts(result)[0] == "a\ufffdb"
    assert result.model_dump_json()


def test_every_status_has_a_name_and_all_but_one_say_how_to_go_on() -> None:
    assert set(PUBLIC_STATUS.values()) == set(STATUSES)
    for status in PUBLIC_STATUS:
        result = job_result(job_view("t", status=status))
        assert result.is_error == (status == "stoppedByError")
        assert ("next" in facts(result)) == (status != "completed")
        assert "{" not in facts(result).get("next", "")


def test_what_is_said_next_names_the_tool_of_the_expert() -> None:
    result = job_result(job_view(status="interrupted"))
    assert "a__x" in texts(result)[-1]
    assert "a__x" in facts(result)["next"]


def test_a_caller_without_the_tools_for_jobs_is_not_sent_to_them() -> None:
    view = job_view("x" * 50_000, status="running")
    result = job_result(view, has_job_tools=False)
    assert "perstack_job" not in str(texts(result)) + str(facts(result))
    assert "call a__x with this job_id and an empty query" in facts(result)["next"]


def test_the_trace_can_be_found() -> None:
    result = job_result(job_view(trace_parent=TRACE_PARENT))
    assert facts(result)["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ({"question": "Which one?"}, "Which one?"),
        ({"question": "Which?", "options": ["a", "b"]}, "Which?\nAnswer with one of: a, b."),
        ({"question": "Which?", "options": "a"}, 'ask: {"question": "Which?", "options": "a"}'),
        ({}, "ask: {}"),
    ],
)
def test_a_question_is_the_text(args: dict[str, Any], shown: str) -> None:
    question = ToolCall(id="c1", skill_name="s", tool_name="ask", args=args)
    view = job_view("Before.", status="stoppedByInteractiveTool", questions=(question,))
    assert texts(job_result(view))[0] == f"Before.\n{shown}"
    assert facts(job_result(view))["question"]["arguments"] == args


def test_a_list_of_jobs_shows_the_beginning_of_their_queries() -> None:
    (entry,) = facts(jobs_result([job_view().job]))["jobs"]
    assert entry["query"] == "q" * 200
    assert entry["started_at"] == "1970-01-01T00:00:00+00:00"
    assert texts(jobs_result([])) == ["There are no such jobs."]


def test_an_error_with_a_job_names_it() -> None:
    result = error_result(StoreError("The disk is full.", hint="Make room."), "job1")
    assert texts(result) == ["The disk is full. Make room.", "status: error · job_id: job1"]


STAMP = Stamp(job_id="j", run_id="r", expert_key="reviewer", step_number=3, sequence=1, timestamp=0)
SECRET = {"token": "hunter2"}


def message(*names: str) -> ExpertMessage:
    return ExpertMessage(
        contents=tuple(
            ToolCallPart(tool_call_id=name, tool_name=name, args=SECRET) for name in names
        )
    )


def calling(*names: str) -> ev.CallTools:
    return ev.CallTools(stamp=STAMP, new_message=message(*names), targets=(), usage=Usage())


FAILED = ToolCall(id="c", skill_name="s", tool_name="exec", args=SECRET)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.StartGeneration(stamp=STAMP), "reviewer · step 3 · thinking"),
        (
            ev.Retry(
                stamp=STAMP,
                reason="busy",
                error=ev.RunError(name="RateLimitError", message="busy"),
                fallback=ev.ModelRef(provider="openai", model="gpt-5"),
            ),
            "reviewer · step 3 · trying again with gpt-5",
        ),
        (calling("readTextFile"), "reviewer · step 3 · readTextFile"),
        (calling("a", "b", "c", "d", "e"), "reviewer · step 3 · a, b, c and 2 more"),
        (calling("x" * 100), f"reviewer · step 3 · {'x' * 59}…"),
        (
            ev.RecordToolResult(
                stamp=STAMP, tool_result=text_result(FAILED, "hunter2", is_error=True)
            ),
            "reviewer · step 3 · exec failed",
        ),
        (
            ev.Retry(
                stamp=STAMP, reason="hunter2", error=ev.RunError(name="RateLimit", message="h")
            ),
            "reviewer · step 3 · trying again after RateLimit",
        ),
        (
            transient_events.SkillStarting(
                stamp=STAMP, ordinal=1, skill_name="time", command="c", args=("hunter2",)
            ),
            "reviewer · step 3 · starting time",
        ),
        (transient_events.StreamRunResult(stamp=STAMP, ordinal=1, delta="hunter2"), None),
        (ev.ResolveToolResults(stamp=STAMP), None),
    ],
)
def test_a_line_of_progress_names_what_happens_and_shows_no_content(
    event: PerstackEvent, line: str | None
) -> None:
    assert progress_message(event) == line
