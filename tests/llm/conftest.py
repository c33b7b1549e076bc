"""The model that the tests of this folder ask, directly and through litellm."""

from collections.abc import AsyncGenerator, Generator

import pytest

from perstack.definition.model import Definitions
from perstack.llm.litellm_model import LiteLlmModel
from perstack.llm.model_factory import OpenModel, open_model
from perstack.llm.selection import create_model_selector
from tests.llm.endpoint import ENVIRONMENT
from tests.llm.google_cloud import google_cloud


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test by both routes, unless it names its routes or is marked as `direct_only`."""
    parametrized = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")]
    if "model" in metafunc.fixturenames and not any("model" in names for names in parametrized):
        is_direct_only = metafunc.definition.get_closest_marker("direct_only") is not None
        routes = ["direct"] if is_direct_only else ["direct", "litellm"]
        metafunc.parametrize("model", routes, indirect=True)


@pytest.fixture(scope="session")
def environment() -> Generator[dict[str, str]]:
    """Credentials for every provider."""
    with google_cloud() as google:
        yield {**ENVIRONMENT, **google.environment}


@pytest.fixture
async def model(
    request: pytest.FixtureRequest, environment: dict[str, str]
) -> AsyncGenerator[OpenModel]:
    definitions = Definitions()
    if request.param == "litellm":
        selector = create_model_selector(definitions, provider=definitions.provider)
        opened: OpenModel = LiteLlmModel(selector, environment)
    else:
        opened = open_model(definitions=definitions, environment=environment)
    yield opened
    await opened.aclose()
