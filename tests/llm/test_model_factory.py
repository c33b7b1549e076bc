"""Which model is open while definitions change and jobs run."""

from dataclasses import dataclass, field

import pytest

from perstack.definition.model import Definitions, Fallback, Provider
from perstack.errors import ConfigError
from perstack.llm.model_factory import ModelCache
from tests.fakes import FakeModel

pytestmark = pytest.mark.anyio

FIRST = Definitions(model="first")
SECOND = Definitions(model="second")


class Noting(FakeModel):
    """A model that says whether it is closed."""

    def __init__(self, name: str | None) -> None:
        super().__init__({})
        self.name = name
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


@dataclass
class Opener:
    """Opens models and remembers them."""

    opened: list[Noting] = field(default_factory=list[Noting])

    def __call__(self, definitions: Definitions) -> Noting:
        if definitions.model == "impossible":
            raise ConfigError("It cannot be opened.")
        self.opened.append(Noting(definitions.model))
        return self.opened[-1]


async def test_an_edit_of_something_else_keeps_the_model() -> None:
    opener = Opener()
    models = ModelCache(opener, FIRST)
    assert await models.update(Definitions(model="first", max_steps=3)) is models.current
    assert [model.is_closed for model in opener.opened] == [False]


@pytest.mark.parametrize(
    "edited",
    [
        SECOND,
        Definitions(model="first", timeout=5),
        Definitions(model="first", fallbacks=(Fallback(model="spare"),)),
        Definitions(model="first", reasoning_budget="high"),
        Definitions(model="first", provider=Provider(provider_name="ollama")),
    ],
)
async def test_an_edit_of_the_model_opens_another_and_closes_the_one_before(
    edited: Definitions,
) -> None:
    opener = Opener()
    models = ModelCache(opener, FIRST)
    assert await models.update(edited) is opener.opened[1]
    assert [model.is_closed for model in opener.opened] == [True, False]


async def test_a_model_that_jobs_use_is_closed_when_the_last_of_them_ends() -> None:
    opener = Opener()
    models = ModelCache(opener, FIRST)
    first = opener.opened[0]
    async with models.keep_open(first):
        async with models.keep_open(first):
            await models.update(SECOND)
        assert not first.is_closed
    assert first.is_closed
    async with models.keep_open(models.current):
        pass
    assert not opener.opened[1].is_closed


async def test_what_cannot_be_opened_changes_nothing() -> None:
    opener = Opener()
    models = ModelCache(opener, FIRST)
    with pytest.raises(ConfigError):
        await models.update(Definitions(model="impossible"))
    assert models.current is opener.opened[0]
    assert not opener.opened[0].is_closed
    assert await models.update(FIRST) is opener.opened[0]


async def test_closing_closes_the_present_one() -> None:
    opener = Opener()
    models = ModelCache(opener, FIRST)
    await models.update(SECOND)
    await models.aclose()
    assert [model.is_closed for model in opener.opened] == [True, True]
