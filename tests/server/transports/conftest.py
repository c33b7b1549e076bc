"""One server for all tests, and two clients a transport and era."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import cast

import pytest

from tests.server.harness import Mode
from tests.server.transports.clients import Pair
from tests.server.transports.serving import (
    TRANSPORTS,
    HttpServer,
    Transport,
    connected,
    http_server,
    prepare,
)

MODES: tuple[Mode, ...] = ("auto", "legacy")
WAYS = [(transport, mode) for transport in TRANSPORTS for mode in MODES]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the definitions and all jobs are."""
    place = tmp_path_factory.mktemp("served")
    prepare(place)
    return place


@pytest.fixture(scope="session")
def server(folder: Path) -> Generator[HttpServer]:
    """The one HTTP server, which has nothing to complain of in the end."""
    with http_server(folder) as one:
        yield one
        one.end()
    assert len(one.lines) == 1, "".join(one.lines)


@pytest.fixture(scope="module", params=WAYS, ids=[f"{way}-{mode}" for way, mode in WAYS])
async def pair(
    request: pytest.FixtureRequest, folder: Path, server: HttpServer
) -> AsyncGenerator[Pair]:
    """Two clients that came the same way."""
    transport, mode = cast("tuple[Transport, Mode]", request.param)
    async with (
        connected(transport, mode, folder, server.origin) as first,
        connected(transport, mode, folder, server.origin) as second,
    ):
        yield Pair(folder, first, second)
