"""Which addresses a remote skill may have, judged by the URL alone.

Whoever connects checks the resolved addresses and every redirect again with `is_private_address`,
because a public name may lead to a private machine.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Translated to IPv4 by whatever the local network says.
LOCALLY_TRANSLATED = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("::ffff:0:0:0/96"),
)
PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def endpoint_fault(url: str, *, allow_private: bool) -> str | None:
    """Why a skill may not be reached at `url`, or `None` if it may; never repeats the URL.

    A public host needs HTTPS. A host on this machine or in a private network needs `allow_private`
    and may then use HTTP.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in {"http", "https"} or not host:
        return "must be a URL with HTTPS and a host, such as https://example.com/mcp"
    if not url.isascii() or any(ord(character) <= ord(" ") for character in url):
        return "must be ASCII without spaces"
    if parts.username is not None or parts.password is not None:
        return "must not contain a user name or a password; send credentials with headers"
    if is_private_host(host):
        return None if allow_private else "must be a public HTTPS URL"
    return None if parts.scheme == "https" else "must use HTTPS"


def is_private_host(host: str) -> bool:
    """Whether a host, taken literally, is this machine or belongs to a private network.

    All spellings of an address count, also `127.1`, `0x7f000001` and `[::ffff:10.0.0.1]`. A name is
    private if it has no dot or ends in a suffix that public DNS does not serve.
    """
    name = host.strip("[]").rstrip(".").lower()
    address = _literal_address(name)
    if address is not None:
        return is_private_address(address)
    return "." not in name or name.endswith(PRIVATE_SUFFIXES)


def is_private_address(address: Address) -> bool:
    """Whether an address is not a public unicast one, also where it wraps an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _wrapped_ipv4(address)
        if inner is not None:
            return is_private_address(inner)
        if address.is_site_local or any(address in network for network in LOCALLY_TRANSLATED):
            return True
    return not address.is_global or address.is_multicast


def _wrapped_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64 or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _literal_address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # short, octal and hexadecimal forms
    except (OSError, ValueError):
        return None
