"""What the tests of the model endpoint share."""

from collections.abc import AsyncGenerator

import httpx
import pytest


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    """A plain client that goes straight to the loopback."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client
