"""Which hosts and addresses a remote skill may have."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

from perstack.definition.references import is_private_address
from perstack.errors import SkillError

HostResolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host; raises OSError if the name is unknown."""


async def resolve_host(host: str, port: int) -> list[str]:
    address_infos = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [entry[4][0].partition("%")[0] for entry in address_infos]


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The hosts and addresses that the definition of a remote skill allows.

    Attributes:
        skill_name: For errors.
        allow_private: Whether addresses of this machine or a private network are
            allowed, also without TLS.
        resolver: Finds the addresses of a host.
        allowed_domains: Exact hosts and `*.suffix` patterns; empty allows every host.
    """

    skill_name: str
    allow_private: bool = False
    allowed_domains: tuple[str, ...] = ()
    resolver: HostResolver = resolve_host

    async def resolve(self, url: str) -> tuple[str, ...]:
        """The addresses of a URL's host, all of them allowed.

        Connect to these only: the name may resolve to other addresses the next time.

        Raises:
            SkillError: The scheme, the host or one of its addresses is not allowed, or the name
                is unknown.
        """
        parts = urlsplit(url)
        host = parts.hostname
        if not host or parts.scheme not in {"http", "https"}:
            raise self._policy_error(
                f"has no usable endpoint: {url!r}", "Give an https:// address."
            )
        if self.allowed_domains and not is_allowed_domain(host, self.allowed_domains):
            raise self._policy_error(
                f"may not reach {host!r}", "Add it to the skill's `allowedDomains` if it should."
            )
        addresses = await self._resolve_addresses(host, parts.port or _default_port(parts.scheme))
        is_private = [is_private_address(ipaddress.ip_address(address)) for address in addresses]
        if any(is_private) and not self.allow_private:
            raise self._policy_error(
                f"endpoint {host!r} is a private or local address",
                "Set `allowPrivate = true` on the skill if that is what you want.",
            )
        if parts.scheme == "http" and not all(is_private):
            raise self._policy_error(
                f"endpoint must use HTTPS: {host!r}", "Give an https:// address."
            )
        return tuple(addresses)

    async def _resolve_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return await self.resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise self._policy_error(
                f"cannot be reached: the name {host!r} is unknown", "Check the skill's `endpoint`."
            ) from error

    def _policy_error(self, problem: str, hint: str) -> SkillError:
        return SkillError(f"Skill {self.skill_name!r} {problem}.", skill=self.skill_name, hint=hint)


def is_allowed_domain(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a host matches a pattern; `*.example.com` does not match `example.com` itself."""
    host = host.lower().rstrip(".")
    return any(
        host.endswith(pattern[1:].lower()) if pattern.startswith("*.") else host == pattern.lower()
        for pattern in patterns
    )


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
