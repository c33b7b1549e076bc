"""Jobs as folders of JSON files: written, read back, and read as another tool wrote them."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import newest_checkpoints, newest_root
from perstack.core.messages import ExpertMessage, TextPart, ToolCallPart, ToolResult, UserMessage
from perstack.errors import ConfigError
from perstack.store.memory import MemoryStore
from perstack.store.projection import group_by_run
from perstack.store.transfer.import_job import import_events
from perstack.store.transfer.job_archive import ArchivedJob
from perstack.store.transfer.upstream_export import export_job_folder
from perstack.store.transfer.upstream_import import find_job_folders, read_job
from tests.store.sample_job import USAGE, RunStory, write

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


async def there_and_back(tmp_path: Path, *events: ev.RunEvent) -> tuple[Checkpoint, Checkpoint]:
    """The newest checkpoint of the job before it was written out and after it was read back."""
    store = MemoryStore(owner="us")
    await store.release(await write(store, *events))
    home = export_job_folder(tmp_path, (await store.load("job")).job, events)
    packed = read_job(home)
    other = MemoryStore(owner="elsewhere")
    assert await import_events(other, packed.job_id, packed.events) == "added"
    assert (await other.load("job")).job.status == (await store.load("job")).job.status
    return root(await store.load("job")), root(await other.load("job"))


def root(record: Any) -> Checkpoint:
    checkpoint = newest_root(newest_checkpoints(record.runs))
    assert checkpoint is not None
    return checkpoint


def same(before: Checkpoint, after: Checkpoint) -> None:
    """Whatever one needs to go on from a checkpoint."""
    for name in ("messages", "status", "state", "step_number", "expert", "provider", "model"):
        assert getattr(after, name) == getattr(before, name), name
    assert [call.id for call in after.pending_tool_calls] == [
        call.id for call in before.pending_tool_calls
    ]
    assert after.tool_results == before.tool_results
    assert after.usage == before.usage
    assert after.text == before.text


def asking(run: RunStory) -> tuple[ev.RunEvent, ...]:
    """A step with a call that is answered, and a question that is not."""
    calls = tuple(
        ToolCallPart(tool_call_id=f"{name}-1", tool_name=name, args={"id": name})
        for name in ("look", "ask")
    )
    targets = (
        ev.ToolTarget(tool_call_id="look-1", skill_name="eyes", kind="mcp"),
        ev.ToolTarget(tool_call_id="ask-1", skill_name="user", kind="interactive"),
    )
    result = ToolResult(
        id="look-1", skill_name="eyes", tool_name="look", result=(TextPart(text="seen"),)
    )
    message = ExpertMessage(contents=(TextPart(text="Hm."), *calls))
    return (
        run.generate(),
        ev.CallTools(stamp=run.stamp(), new_message=message, targets=targets, usage=USAGE),
        ev.StartToolCalls(stamp=run.stamp(), tool_call_ids=("look-1",)),
        ev.RecordToolResult(stamp=run.stamp(), tool_result=result),
        ev.FinishMcpTools(stamp=run.stamp()),
        ev.SkipDelegates(stamp=run.stamp()),
        ev.CallInteractiveTool(stamp=run.stamp(), tool_call_id="ask-1"),
        run.ask(),
    )


async def test_a_completed_job_comes_back(tmp_path: Path) -> None:
    run = RunStory()
    same(
        *await there_and_back(
            tmp_path, run.start(), *run.step(), *run.step(), run.generate(), run.complete()
        )
    )


async def test_a_completion_by_its_tool_comes_back(tmp_path: Path) -> None:
    run = RunStory()
    call = ToolCallPart(tool_call_id="c", tool_name="attemptCompletion", args={"result": "Done."})
    target = ev.ToolTarget(tool_call_id="c", skill_name="@perstack/base", kind="mcp")
    accepted = ToolResult(
        id="c", skill_name="@perstack/base", tool_name="attemptCompletion", result=()
    )
    message = ExpertMessage(contents=(call,))
    same(
        *await there_and_back(
            tmp_path,
            run.start(),
            *run.step(),
            run.generate(),
            ev.CallTools(stamp=run.stamp(), new_message=message, targets=(target,), usage=USAGE),
            ev.AttemptCompletion(stamp=run.stamp(), tool_result=accepted, accepted=True),
            ev.CompleteRun(stamp=run.stamp(), text="Done."),
        )
    )


async def test_a_job_that_waits_for_an_answer_comes_back(tmp_path: Path) -> None:
    run = RunStory()
    before, after = await there_and_back(tmp_path, run.start(), *run.step(), *asking(run))
    same(before, after)
    assert [call.kind for call in after.pending_tool_calls] == ["interactive"]
    assert after.pending_tool_calls[0].args == {"id": "ask"}


async def test_a_job_that_waits_for_its_delegates_comes_back(tmp_path: Path) -> None:
    run = RunStory()
    child = run.delegate("child")
    call = ToolCallPart(tool_call_id="call-1", tool_name="reader", args={"query": "Read."})
    target = ev.ToolTarget(tool_call_id="call-1", skill_name="delegate/reader", kind="delegate")
    delegation = ev.Delegation(
        expert=child.expert,
        tool_call_id="call-1",
        tool_name="reader",
        query="Read.",
        run_id="child",
    )
    message = ExpertMessage(contents=(call,))
    events = (
        run.start(),
        run.generate(),
        ev.CallTools(stamp=run.stamp(), new_message=message, targets=(target,), usage=USAGE),
        ev.FinishMcpTools(stamp=run.stamp()),
        ev.CallDelegate(stamp=run.stamp(), delegate_to=(delegation,)),
        run.wait(),
    )
    child.now = run.now
    child_events = (child.start(delegated_by=run.as_delegator()), *child.step(), child.cancel())
    before, after = await there_and_back(tmp_path, *events, *child_events)
    same(before, after)
    assert after.delegate_to == before.delegate_to

    told = newest_checkpoints(group_by_run(read_job(tmp_path / "jobs" / "job").events))
    assert list(told) == ["run", "child"]
    assert told["child"].delegated_by is not None
    assert told["child"].delegated_by.run_id == "run"
    assert told["child"].status == "stoppedByCancellation"


@pytest.mark.parametrize("end", ["fail", "cancel"])
async def test_a_stopped_job_comes_back(end: str, tmp_path: Path) -> None:
    run = RunStory()
    before, after = await there_and_back(
        tmp_path, run.start(), *run.step(), run.generate(), getattr(run, end)()
    )
    assert after.status == before.status
    assert after.messages == before.messages
    assert after.error == before.error


async def test_a_job_that_used_all_its_steps_comes_back(tmp_path: Path) -> None:
    run = RunStory()
    start, *step = (run.start(), *run.step()[:-1])
    run.sequence, run.step_number = run.sequence - 1, run.step_number - 1
    same(*await there_and_back(tmp_path, start, *step, run.exhaust()))


async def test_an_interrupted_job_comes_back_between_steps_and_within_one(tmp_path: Path) -> None:
    run = RunStory()
    steps = (run.start(), *run.step())
    same(*await there_and_back(tmp_path / "between", *steps))
    within = (*steps, *run.step()[:3])
    before, after = await there_and_back(tmp_path / "within", *within)
    same(before, after)
    # What may have happened is in doubt, there as here.
    assert after.started_tool_calls == before.started_tool_calls


async def test_what_the_user_said_later_comes_back(tmp_path: Path) -> None:
    run, second = RunStory(), RunStory(run_id="second")
    first = (run.start(), run.generate(), run.complete("One."))
    second.now, second.step_number = run.now, 2
    again = ev.StartRun(
        stamp=second.stamp(),
        expert=run.expert,
        provider="scripted",
        model="play",
        input_messages=(UserMessage(contents=(TextPart(text="And two?"),)),),
        step_limit=100,
        continued_from="run-3",
    )
    before, after = await there_and_back(
        tmp_path, *first, again, *second.step(), second.generate(), second.complete("Two.")
    )
    assert after.messages == before.messages
    assert (after.status, after.text) == ("completed", "Two.")


async def test_steps_and_usage_are_those_of_the_original(tmp_path: Path) -> None:
    run = RunStory()
    run.step_number = 4
    events = (run.start(), *run.step(), *run.step(), run.generate(), run.cancel())
    await there_and_back(tmp_path, *events)
    read = read_job(tmp_path / "jobs" / "job").events
    asked = [event for event in read if isinstance(event, ev.CallTools)]
    original = [event for event in events if isinstance(event, ev.CallTools)]
    assert [event.stamp.step_number for event in asked] == [4, 5]
    assert [event.usage for event in asked] == [USAGE, USAGE]
    assert [event.targets for event in asked] == [event.targets for event in original]
    assert [event.stamp.timestamp for event in asked] == [
        event.stamp.timestamp for event in original
    ]


# -- as another tool writes it: runs get new ids as they go on, and messages have ids of their own


def text(value: str) -> Json:
    return {"type": "textPart", "id": "p", "text": value}


def checkpoint(checkpoint_id: str, run_id: str, step: int, **fields: Any) -> Json:
    return {
        "id": checkpoint_id,
        "jobId": "old",
        "runId": run_id,
        "status": "proceeding",
        "stepNumber": step,
        "expert": {"key": "boss", "name": "boss", "version": "1.0.0"},
        "usage": {"inputTokens": 1, "outputTokens": 1, "reasoningTokens": 0, "totalTokens": 2},
        **fields,
    }


OPENING = [
    {"type": "instructionMessage", "id": "m0", "contents": [text("Lead.")], "cache": True},
    {"type": "userMessage", "id": "m1", "contents": [text("Do it.")]},
]
CALLING = {
    "type": "expertMessage",
    "id": "m2",
    "contents": [
        {
            "type": "toolCallPart",
            "id": "p",
            "toolCallId": "call",
            "toolName": "helper",
            "args": {"query": "Help.", "id": "stays"},
        }
    ],
}
ANSWERED = {
    "type": "toolMessage",
    "id": "m3",
    "contents": [
        {
            "type": "toolResultPart",
            "id": "p",
            "toolCallId": "call",
            "toolName": "helper",
            "contents": [text("Helped.")],
        }
    ],
}
DELEGATED = {
    "expert": {"key": "boss", "name": "boss", "version": "1.0.0"},
    "toolCallId": "call",
    "toolName": "helper",
    "checkpointId": "c1",
    "runId": "r1",
}


def written(folder: Path, checkpoints: list[Json], events: list[Json]) -> Path:
    home = folder / "jobs" / "old"
    (home / "checkpoints").mkdir(parents=True)
    job: Json = {"id": "old", "status": "running", "startedAt": 500, "totalSteps": 3, "usage": {}}
    (home / "job.json").write_text(json.dumps(job), encoding="utf-8")
    for one in checkpoints:
        (home / "checkpoints" / f"{one['id']}.json").write_text(json.dumps(one), encoding="utf-8")
        run = home / "runs" / one["runId"]
        run.mkdir(parents=True, exist_ok=True)
        setting = {"runId": one["runId"], "model": "m", "startedAt": 500, "maxSteps": 9}
        (run / "run-setting.json").write_text(json.dumps(setting), encoding="utf-8")
    for one in events:
        name = f"event-{one['timestamp']}-{one['stepNumber']}-{one['type']}.json"
        (home / "runs" / one["runId"] / name).write_text(json.dumps(one), encoding="utf-8")
    return home


def foreign(folder: Path) -> ArchivedJob:
    """A coordinator that called a delegate and went on under another run id."""
    child = {
        "expert": {"key": "@boss/helper", "name": "@boss/helper", "version": "1.0.0"},
        "delegatedBy": DELEGATED,
    }
    helped = {"type": "expertMessage", "id": "h2", "contents": [text("Helped.")]}
    final = {"type": "expertMessage", "id": "m4", "contents": [text("Done.")]}
    home = written(
        folder,
        [
            checkpoint("c1", "r1", 1, status="stoppedByDelegate", messages=[*OPENING, CALLING]),
            checkpoint("c2", "r2", 2, status="completed", messages=[*OPENING, helped], **child),
            checkpoint("c3", "r3", 2, messages=[*OPENING, CALLING, ANSWERED]),
            checkpoint(
                "c4", "r3", 3, status="completed", messages=[*OPENING, CALLING, ANSWERED, final]
            ),
        ],
        [
            {
                "type": "callDelegate",
                "runId": "r1",
                "stepNumber": 1,
                "timestamp": 600,
                "newMessage": CALLING,
                "toolCalls": [
                    {
                        "id": "call",
                        "skillName": "delegate/@boss/helper",
                        "toolName": "helper",
                        "args": {},
                    }
                ],
                "usage": {"inputTokens": 5, "outputTokens": 2, "unknown": 1},
            }
        ],
    )
    return read_job(home)


async def test_a_job_of_another_tool_is_read_with_its_delegates(tmp_path: Path) -> None:
    packed = foreign(tmp_path)
    store = MemoryStore(owner="us")
    assert await import_events(store, packed.job_id, packed.events) == "added"
    record = await store.load("old")
    assert (record.job.status, record.job.total_steps) == ("completed", 3)
    assert (record.job.query, record.job.coordinator_expert_key) == ("Do it.", "boss")
    assert list(record.runs) == ["r3", "r2"]
    end = root(record)
    assert [message.type for message in end.messages] == [
        "instructionMessage",
        "userMessage",
        "expertMessage",
        "toolMessage",
        "expertMessage",
    ]
    assert (end.text, end.model, end.step_limit) == ("Done.", "m", 9)
    calling = end.messages[2]
    assert isinstance(calling, ExpertMessage)
    assert calling.tool_calls[0].args == {"query": "Help.", "id": "stays"}
    child = newest_checkpoints(record.runs)["r2"]
    assert child.delegated_by is not None
    assert (child.delegated_by.run_id, child.text) == ("r3", "Helped.")


async def test_the_same_folder_gives_the_same_events(tmp_path: Path) -> None:
    assert foreign(tmp_path / "one") == foreign(tmp_path / "two")


def test_jobs_are_found_in_a_workspace_and_by_themselves(tmp_path: Path) -> None:
    foreign(tmp_path)
    home = tmp_path / "jobs" / "old"
    assert find_job_folders(tmp_path) == [home]
    assert find_job_folders(home) == [home]
    with pytest.raises(ConfigError, match="has no jobs"):
        find_job_folders(home / "runs")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("job.json", "{", r"job\.json is damaged: it is no JSON"),
        ("checkpoints/c4.json", "[]", "holds a job that cannot be understood"),
        ("checkpoints/c4.json", '{"runId": "r3"}', "holds a job that cannot be understood"),
        ("runs/r1/event-600-1-callDelegate.json", "{}x", "callDelegate.json is damaged"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(
    name: str, content: str, complaint: str, tmp_path: Path
) -> None:
    foreign(tmp_path)
    home = tmp_path / "jobs" / "old"
    (home / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        read_job(home)


def test_a_job_without_checkpoints_of_its_coordinator_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path)
    home = tmp_path / "jobs" / "old"
    for path in (home / "checkpoints").iterdir():
        if "delegatedBy" not in json.loads(path.read_text(encoding="utf-8")):
            path.unlink()
    with pytest.raises(ConfigError, match="no checkpoint of the expert that the job began with"):
        read_job(home)
