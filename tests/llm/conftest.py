"""The model that the tests of this folder ask."""

from collections.abc import AsyncGenerator

import pytest

from perstack.definition.model import Definitions
from perstack.llm.model_factory import OpenModel, open_model
from tests.llm.endpoint import ENVIRONMENT


@pytest.fixture
async def model() -> AsyncGenerator[OpenModel]:
    opened = open_model(definitions=Definitions(), environment=ENVIRONMENT)
    yield opened
    await opened.aclose()
