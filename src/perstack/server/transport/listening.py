"""Where an HTTP server listens, and the loop that reads requests there."""

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp

from perstack.errors import ConfigError

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep a connection that they may use again, so that none closes under them."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or by number, and a port; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def in_numbers(address: Address) -> Address:
    """The address as the machine knows it.

    Raises:
        ConfigError: No such host is known.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _in_words(address, error) from error
    return Address(str(found[0][4][0]), address.port)


@contextmanager
def bound(address: Address) -> Generator[tuple[socket.socket, Address]]:
    """A socket that accepts connections at an address in numbers, and the address with its port.

    Raises:
        ConfigError: The address is taken, forbidden, or none of this machine's.
    """
    is_v6 = ":" in address.host
    try:
        listening = socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise _in_words(address, error) from error
    with listening:
        yield listening, Address(address.host, listening.getsockname()[1])


def is_loopback(address: Address) -> bool:
    """Whether only programs of this machine reach the address, given in numbers."""
    return ip_address(address.host.partition("%")[0]).is_loopback


class Listener(uvicorn.Server):
    """Reads requests until `should_exit`; signals are the business of who started it."""

    def __init__(self, app: ASGIApp, *, shutdown_seconds: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=shutdown_seconds,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone."""
        yield


def _in_words(address: Address, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        hint = "Another program listens there; choose another port, or 0 for any that is free."
        return ConfigError(f"{address} is already in use.", hint=hint)
    if error.errno == errno.EACCES:
        hint = "Ports below 1024 are reserved; choose a higher one."
        return ConfigError(f"{address} may not be used.", hint=hint)
    hint = "Name an address of this machine, such as 127.0.0.1:8000."
    return ConfigError(f"{address} cannot be listened on: {error.strerror}.", hint=hint)
