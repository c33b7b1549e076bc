"""A web server for the tests of remote skills, started once."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.skills.stage import SERVERS


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """The origin of `servers/web.py`, which listens before it is ready to answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, str(SERVERS / "web.py"), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=10)
