"""Which addresses a remote skill may have once its name is resolved."""

from collections.abc import Sequence

import httpx2
import pytest

from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from perstack.skills.address_policy import AddressPolicy, HostResolver, is_allowed_domain
from perstack.skills.http import HttpEndpoint, PinnedAddressTransport

pytestmark = pytest.mark.anyio

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 -- an address to be refused, not one to listen at
    "224.0.0.1",
    "::1",
    "fe80::1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
]


def leads_to(*addresses: str) -> HostResolver:
    async def look_up(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return look_up


async def unknown(host: str, _port: int) -> Sequence[str]:
    raise OSError(f"no {host}")


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_public_name_may_not_lead_to_a_private_machine(address: str) -> None:
    rules = AddressPolicy("web", resolver=leads_to("93.184.216.34", address))

    with pytest.raises(SkillError, match="private or local"):
        await rules.resolve("https://example.com/mcp")


async def test_a_public_name_is_reached_at_the_addresses_that_were_checked() -> None:
    rules = AddressPolicy("web", resolver=leads_to("93.184.216.34", "2606:2800:220:1::1"))

    assert await rules.resolve("https://example.com/mcp") == ("93.184.216.34", "2606:2800:220:1::1")


async def test_a_public_machine_needs_https_even_if_private_ones_are_allowed() -> None:
    rules = AddressPolicy("web", allow_private=True, resolver=leads_to("93.184.216.34"))

    with pytest.raises(SkillError, match="HTTPS"):
        await rules.resolve("http://example.com/mcp")


async def test_a_private_machine_is_reached_without_tls_if_that_is_allowed() -> None:
    rules = AddressPolicy("web", allow_private=True, resolver=leads_to("10.0.0.1"))

    assert await rules.resolve("http://intranet/mcp") == ("10.0.0.1",)


async def test_an_unknown_name_is_told() -> None:
    with pytest.raises(SkillError, match=r"'absent\.example' is unknown"):
        await AddressPolicy("web", resolver=unknown).resolve("https://absent.example/mcp")


async def test_other_schemes_are_refused() -> None:
    with pytest.raises(SkillError, match="no usable endpoint"):
        await AddressPolicy("web", resolver=unknown).resolve("ftp://example.com/mcp")


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("example.com", True),
        ("EXAMPLE.com.", True),
        ("api.example.com", False),
        ("a.example.org", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("evilexample.org", False),
    ],
)
def test_a_pattern_means_one_host_or_everything_below(host: str, is_allowed: bool) -> None:
    assert is_allowed_domain(host, ("example.com", "*.example.org")) is is_allowed


async def test_a_request_to_a_private_machine_is_never_sent() -> None:
    skill = McpSseSkill(type="mcpSseSkill", endpoint="https://example.com/mcp")
    endpoint = HttpEndpoint("web", skill, {})

    async with httpx2.AsyncClient(transport=PinnedAddressTransport(endpoint)) as client:
        with pytest.raises(httpx2.ConnectError, match="private or local address"):
            await client.get("https://169.254.169.254/latest/meta-data")

    assert "private or local address" in endpoint.failure_details()
