"""A web server for the tests of remote skills, started once."""

from collections.abc import Iterator

import pytest

from tests.skills.harness import web_server


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """The origin of a web server that is there for all tests."""
    with web_server() as (origin, _process):
        yield origin
