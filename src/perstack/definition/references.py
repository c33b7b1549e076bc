"""Which addresses a remote skill may have, judged by the URL alone.

Connecting checks the resolved addresses and every redirect again with `is_private_address`,
because a public name may resolve to a private address.
"""

import ipaddress
import re
import socket
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Translated to IPv4 as the local network configures it.
LOCAL_TRANSLATION_NETWORKS = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("::ffff:0:0:0/96"),
)
PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def endpoint_error(url: str, *, allow_private: bool) -> str | None:
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


def is_private_address(address: IpAddress) -> bool:
    """Whether an address is not a public unicast one, also where it wraps an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is not None:
            return is_private_address(embedded)
        if address.is_site_local or any(
            address in network for network in LOCAL_TRANSLATION_NETWORKS
        ):
            return True
    return not address.is_global or address.is_multicast


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64 or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _literal_address(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # short, octal and hexadecimal forms
    except (OSError, ValueError):
        return None


EXPERT_NAME = r"(@[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_.-]*"
SEMVER = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
TAG = r"[a-z0-9][a-z0-9_-]*"
PACKAGE_NAME = r"(@[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*"

EXPERT_KEY_PATTERN = f"^{EXPERT_NAME}(@({SEMVER}|{TAG}))?$"
VERSION_PATTERN = f"^{SEMVER}$"
RUNTIME_VERSION_PATTERN = f"^({SEMVER}|v?[0-9]+(\\.[0-9]+){{0,2}})$"
TAG_PATTERN = f"^{TAG}$"
PACKAGE_PATTERN = f"^{PACKAGE_NAME}(@({SEMVER}|{TAG}))?$"
ENVIRONMENT_PATTERN = r"^[a-zA-Z0-9_][a-zA-Z0-9_-]*$"

MAX_NAME_CHARACTERS = 255
MAX_KEY_CHARACTERS = 511
MAX_QUERY_CHARACTERS = 500_000
"""About 125,000 tokens: a long diff, and yet less than a usual context window."""

DEFAULT_MAX_TOOL_RESULT_CHARACTERS = 36_000
"""About 9,000 tokens."""

MIN_TOOL_RESULT_CHARACTERS = 1_000
BASE_SKILL = "@perstack/base"
DEFAULT_TOOL_NAMES = (
    "attemptCompletion",
    "todo",
    "clearTodo",
    "exec",
    "readToolResult",
    "globFiles",
    "grepFiles",
    "readTextFile",
    "readImageFile",
    "readPdfFile",
    "writeTextFile",
    "editTextFile",
)
"""The tools of the base skill where nothing is picked; `exec` can do what the others do."""

BASE_TOOL_NAMES = (
    *DEFAULT_TOOL_NAMES,
    "getFileInfo",
    "appendTextFile",
    "moveFile",
    "deleteFile",
    "listDirectory",
    "createDirectory",
    "deleteDirectory",
    "healthCheck",
)
"""All tools of the base skill."""
VARIABLE_REFERENCE = re.compile(r"\$\{([^}]*)\}")
"""`${NAME}` in a header of a remote skill, replaced by the value of that variable."""


def strip_version(expert_key: str) -> str:
    """The expert's name without the version or tag that a key may end in."""
    return expert_key[:1] + expert_key[1:].split("@", 1)[0]


def coordinator_of(expert_name: str) -> str | None:
    """The coordinator that a delegate belongs to: `a` for `@a/x`, `None` for a coordinator."""
    scope = re.match(r"^@([^/]+)/", expert_name)
    return scope.group(1) if scope else None


def is_delegate_name(expert_name: str) -> bool:
    """Whether a name is of the form `@coordinator/delegate`."""
    return coordinator_of(expert_name) is not None


def _check_name_length(expert_key: str) -> str:
    if len(strip_version(expert_key)) > MAX_NAME_CHARACTERS:
        raise ValueError(f"has a name of more than {MAX_NAME_CHARACTERS} characters")
    return expert_key


ExpertKey = Annotated[
    str,
    StringConstraints(pattern=EXPERT_KEY_PATTERN, max_length=MAX_KEY_CHARACTERS),
    AfterValidator(_check_name_length),
]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN, max_length=MAX_NAME_CHARACTERS)]
RuntimeVersion = Annotated[
    str, StringConstraints(pattern=RUNTIME_VERSION_PATTERN, max_length=MAX_NAME_CHARACTERS)
]
Tag = Annotated[str, StringConstraints(pattern=TAG_PATTERN, max_length=MAX_NAME_CHARACTERS)]
PackageSpec = Annotated[
    str, StringConstraints(pattern=PACKAGE_PATTERN, max_length=MAX_KEY_CHARACTERS)
]
EnvironmentName = Annotated[
    str, StringConstraints(pattern=ENVIRONMENT_PATTERN, max_length=MAX_NAME_CHARACTERS)
]
SkillName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARACTERS)]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARACTERS)]
