"""Where a remote skill may be, judged by what is written in the file."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.definition.references import endpoint_error, is_private_host

PRIVATE = [
    "localhost",
    "localhost.",
    "printer",
    "build.local",
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "0.0.0.0",  # noqa: S104 - an address to refuse, nothing listens on it
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "[::1]",
    "[::]",
    "[::ffff:10.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::a00:1]",
    "[2002:a00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd12:3456::1]",
]
PUBLIC = ["example.com", "mcp.example.com:8443", "1.1.1.1", "172.32.0.1", "[2606:4700::1111]"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_is_refused_in_every_spelling(host: str) -> None:
    assert endpoint_error(f"https://{host}/mcp", allow_private=False) is not None


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_private_host_is_accepted_once_it_is_allowed(scheme: str, host: str) -> None:
    assert endpoint_error(f"{scheme}://{host}/mcp", allow_private=True) is None


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_host_is_accepted_with_https(host: str) -> None:
    assert endpoint_error(f"https://{host}/mcp", allow_private=False) is None


@pytest.mark.parametrize("host", PUBLIC)
@pytest.mark.parametrize("allow_private", [True, False])
def test_a_public_host_needs_https_whatever_is_allowed(host: str, *, allow_private: bool) -> None:
    fault = endpoint_error(f"http://{host}/mcp", allow_private=allow_private)
    assert fault is not None
    assert "HTTPS" in fault


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/mcp",
        "ftp://example.com",
        "file:///etc/hosts",
        "https://",
        "https://[::1",
        "https://example.com:99999",
        "https://exa mple.com",
        "https://example.com/\nmcp",
        "https://①②⑦.0.0.1",
    ],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_what_is_no_plain_url_is_refused_whatever_is_allowed(
    url: str, *, allow_private: bool
) -> None:
    assert endpoint_error(url, allow_private=allow_private) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://someone:hunter2hunter2@example.com/mcp",
        "https://hunter2hunter2@example.com/mcp",
        "https://example.com\\@hunter2hunter2/",
    ],
)
def test_a_secret_in_the_url_is_refused_without_being_repeated(url: str) -> None:
    fault = endpoint_error(url, allow_private=True)
    assert fault is not None
    assert "hunter2" not in fault


@given(st.ip_addresses(v=4))
def test_all_spellings_of_an_address_are_judged_alike(address: IPv4Address | IPv6Address) -> None:
    number = int(address)
    expected = is_private_host(str(address))
    for spelling in (str(number), hex(number), oct(number).replace("0o", "0")):
        assert is_private_host(spelling) == expected
    assert is_private_host(f"[::ffff:{address}]") == expected
