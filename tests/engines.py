"""A real engine with fakes at its edges."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from perstack.definition.budget import Budget
from perstack.definition.model import Definitions
from perstack.engine import Engine, open_engine
from perstack.runtime.ports import Clock, Model, Store, SystemClock
from perstack.settings import Admit, Overrides, Settings, admit_all
from perstack.store.memory import MemoryStore
from tests.fakes import FakeSkills, NoTelemetry

TOML = """
[experts."reviewer"]
version = "2.1.0"
description = "Reviews files."
instruction = "Work."
delegates = ["@reviewer/file"]

[experts."@reviewer/file"]
description = "Reviews one file."
instruction = "Help."

[experts."writer"]
instruction = "Write."
"""


@asynccontextmanager
async def engine_on(
    folder: Path,
    model: Model | None,
    *,
    toml: str = TOML,
    skills: FakeSkills | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
    max_steps: int | None = None,
    budget: Budget | None = None,
    has_real_skills: bool = False,
    is_attended: bool = True,
    is_streaming: bool = False,
    admit: Admit = admit_all,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Engine]:
    """An engine on the definitions of `toml`, written to `folder`, its workspace."""
    config = folder / "perstack.toml"
    config.write_text(toml, encoding="utf-8")
    shared = skills or FakeSkills()

    @asynccontextmanager
    async def open_fake_skills(_definitions: Definitions) -> AsyncGenerator[FakeSkills]:
        yield shared

    overrides = Overrides(
        model=model,
        store=store or MemoryStore(),
        open_skills=None if has_real_skills else open_fake_skills,
        telemetry=NoTelemetry(),
        clock=clock or SystemClock(),
        admit=admit,
    )
    settings = Settings(
        config=config,
        workspace=folder,
        environment=environment or {},
        max_steps=max_steps,
        budget=budget,
        is_attended=is_attended,
        is_streaming=is_streaming,
    )
    async with open_engine(settings, overrides) as engine:
        yield engine
