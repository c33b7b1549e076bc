"""What a connection needs from the way in which its server is reached."""

from typing import Literal, Protocol

from mcp.client import Transport

from perstack.redaction import Redactor

ProtocolMode = Literal["auto", "legacy"]
"""How the protocol version is agreed: newest first, or by the handshake of older servers."""


class TransportListener(Protocol):
    """Is told what happens on a wire. Must not block or raise."""

    def on_starting(self, command: str, args: tuple[str, ...]) -> None:
        """A server process is about to be started."""
        ...

    def on_stderr(self, line: str) -> None:
        """The server wrote a line that is not part of the protocol."""
        ...

    def on_exit(self) -> None:
        """Nothing will come from this server any more."""
        ...


class SkillTransport(Protocol):
    """One way to reach one server. It is used for one connection and then thrown away."""

    @property
    def skill_type(self) -> str:
        """The type as it stands in `perstack.toml`."""
        ...

    @property
    def protocol_mode(self) -> ProtocolMode:
        """How to agree on a protocol version."""
        ...

    @property
    def redactor(self) -> Redactor:
        """Redacts the value of every variable the server was given: for errors and stderr."""
        ...

    @property
    def result_redactor(self) -> Redactor:
        """Redacts variables with secret names only: results must be able to name a folder."""
        ...

    @property
    def spawn_seconds(self) -> float:
        """How long the server process took to start; 0 where there is none."""
        ...

    def fallback(self) -> "SkillTransport | None":
        """Another way worth trying after this one failed to get ready, if there is one."""
        ...

    def failure_details(self) -> str:
        """What was tried and what came of it, for an error message; free of secrets."""
        ...

    def open(self, listener: TransportListener) -> Transport:
        """The streams of the connection; leaving ends the server process or the session."""
        ...
