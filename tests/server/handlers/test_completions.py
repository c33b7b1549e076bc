"""Ids and names that a client completes while they are typed."""

from pathlib import Path

import pytest
from mcp import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference

from perstack.server.resources.uris import TEMPLATES
from tests.fakes import FakeModel, done
from tests.server.harness import Mode, Stage, facts, stage

pytestmark = pytest.mark.anyio

JOB = ResourceTemplateReference(type="ref/resource", uri=TEMPLATES["job"].text)
CHECKPOINT = ResourceTemplateReference(type="ref/resource", uri=TEMPLATES["checkpoint"].text)
EXPERT = ResourceTemplateReference(type="ref/resource", uri=TEMPLATES["expert"].text)


async def values(
    here: Stage,
    ref: ResourceTemplateReference | PromptReference,
    name: str,
    begun: str,
    **given: str,
) -> list[str]:
    result = await here.client.complete(ref, {"name": name, "value": begun}, given or None)
    assert result.completion.total == len(result.completion.values)
    return result.completion.values


async def test_the_ids_of_jobs_are_completed_newest_first(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [done("a"), done("b")], "writer": [done("c")]})
    async with stage(tmp_path, mode, model) as here:
        tools = ("reviewer", "reviewer", "writer")
        ids = [facts(await here.call(tool, query="look"))["job_id"] for tool in tools]
        everything = await values(here, JOB, "job_id", "")
        one = await values(here, JOB, "job_id", ids[0])
        none = await values(here, JOB, "job_id", "no such beginning")
        of_expert = await values(
            here, PromptReference(type="ref/prompt", name="writer"), "job_id", ""
        )
        reviewed = await values(
            here, PromptReference(type="ref/prompt", name="perstack_review_job"), "job_id", ""
        )
    assert everything == ids[::-1]
    assert one == [ids[0]]
    assert none == []
    assert of_expert == [ids[2]]
    assert reviewed == everything


async def test_the_checkpoints_of_a_job_are_completed(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({"reviewer": [done("a")]})) as here:
        result = facts(await here.call("reviewer", query="look"))
        every = await values(here, CHECKPOINT, "checkpoint_id", "", job_id=result["job_id"])
        absent = await values(here, CHECKPOINT, "checkpoint_id", "", job_id="none")
        unsaid = await values(here, CHECKPOINT, "checkpoint_id", "")
    assert every[0] == result["checkpoint_id"]
    assert every[-1].endswith("-1")
    assert absent == unsaid == []


async def test_the_names_of_experts_are_completed(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        assert await values(here, EXPERT, "name", "") == ["reviewer", "writer"]
        assert await values(here, EXPERT, "name", "w") == ["writer"]


async def test_free_text_is_not_completed(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        prompt = PromptReference(type="ref/prompt", name="writer")
        assert await values(here, prompt, "query", "wr") == []


async def test_a_value_that_is_chosen_from_some_is_completed(tmp_path: Path, mode: Mode) -> None:
    toml = (
        "[experts.painter]\ninstruction='Paint.'\n[experts.painter.tool.inputSchema]\n"
        "type='object'\nproperties.colour={type='string', enum=['red', 'rose', 'blue']}\n"
    )
    async with stage(tmp_path, mode, FakeModel({}), toml=toml) as here:
        prompt = PromptReference(type="ref/prompt", name="painter")
        assert await values(here, prompt, "colour", "r") == ["red", "rose"]
        assert await values(here, prompt, "size", "") == []


@pytest.mark.parametrize(
    "ref",
    [
        PromptReference(type="ref/prompt", name="nobody"),
        ResourceTemplateReference(type="ref/resource", uri="perstack://jobs"),
        ResourceTemplateReference(type="ref/resource", uri="file:///{path}"),
    ],
)
async def test_what_is_not_offered_cannot_be_completed(
    tmp_path: Path, mode: Mode, ref: ResourceTemplateReference | PromptReference
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError, match="There is no") as caught:
            await values(here, ref, "job_id", "")
    assert caught.value.code == INVALID_PARAMS
