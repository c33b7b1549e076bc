"""An engine on a file of which one expert has an error."""

from pathlib import Path

import pytest

from perstack.errors import UnknownExpertError
from perstack.runtime.start_plan import JobRequest
from tests.engines import engine_on
from tests.fakes import FakeModel, done

pytestmark = pytest.mark.anyio

TOML = '[experts."good"]\ninstruction = "Work."\n[experts."bad"]\ninstruktion = "Work."\n'


async def test_sound_experts_run_and_the_bad_one_is_refused_with_its_fault(tmp_path: Path) -> None:
    async with engine_on(tmp_path, FakeModel({"good": [done("1")]}), toml=TOML) as engine:
        job = await engine.start(JobRequest(expert_key="good", query="q"))
        view = await job.wait()
        with pytest.raises(UnknownExpertError) as caught:
            await engine.start(JobRequest(expert_key="bad", query="q"))
        jobs = await engine.jobs()

    assert view.job.status == "completed"
    assert "perstack.toml:3:" in str(caught.value)
    assert "instruction: is missing" in str(caught.value)
    assert [each.coordinator_expert_key for each in jobs] == ["good"]
