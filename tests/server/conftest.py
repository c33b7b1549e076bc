"""Every behaviour of the server holds in both eras of the protocol."""

import pytest

from tests.server.harness import Mode


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """How the client connects: with the newest protocol, or with the handshake of the older."""
    return request.param
