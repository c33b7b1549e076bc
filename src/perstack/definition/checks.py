"""What makes a skill or a provider unusable, seen from its table alone; repeats no values."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from perstack.definition.endpoint import endpoint_fault
from perstack.definition.faults import Fault
from perstack.definition.names import VARIABLE_REFERENCE

PACKAGE_RUNNERS = frozenset({"npx", "uvx"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_DOMAIN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SCHEMA_HINT = """write a JSON object in single quotes, such as '{"type":"object"}'"""


def schema_faults(text: str) -> list[Fault]:
    """Why a text is not the JSON Schema of an object."""
    try:
        schema: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return [Fault(f"is not JSON at character {error.pos + 1}", suggestion=_SCHEMA_HINT)]
    except (ValueError, RecursionError):
        return [Fault("is not JSON", suggestion=_SCHEMA_HINT)]
    if not isinstance(schema, dict):
        return [Fault("must be the schema of an object", suggestion=_SCHEMA_HINT)]
    table = cast("dict[str, Any]", schema)
    if table.get("type", "object") != "object":
        return [Fault("must be the schema of an object", suggestion=_SCHEMA_HINT)]
    if not isinstance(table.get("properties", {}), dict):
        return [Fault("has properties that are no JSON object", suggestion=_SCHEMA_HINT)]
    return []


def domain_faults(domains: Collection[str]) -> list[Fault]:
    """Which entries are no host and no wildcard of hosts."""
    return [
        Fault(reason, at=(index,))
        for index, domain in enumerate(domains)
        if (reason := _domain_fault(domain))
    ]


def _domain_fault(domain: str) -> str | None:
    labels = domain.removeprefix("*.").split(".")
    if any(label.lower().startswith("xn--") for label in labels):
        return "is a punycode domain (xn--), which look-alike attacks use; give ASCII domains only"
    if not all(_DOMAIN_LABEL.fullmatch(label) for label in labels):
        return "is no domain pattern; write example.com or *.example.com"
    return None


def command_faults(command: str, package_name: str | None, args: Collection[str]) -> list[Fault]:
    """Why it is not clear what to start, or nothing can be."""
    if any("\0" in word for word in (command, *args)):
        return [Fault("has a NUL character, which no command can have")]
    if package_name is not None and args:
        return [Fault("has both packageName and args", suggestion="give only one of them")]
    if command in PACKAGE_RUNNERS and package_name is None and not args:
        return [Fault("has no packageName or args", suggestion="give one of them")]
    return []


def remote_faults(
    endpoint: str,
    headers: Mapping[str, str],
    required_env: Collection[str],
    *,
    allow_private: bool,
) -> list[Fault]:
    """Why a server cannot be asked over HTTP."""
    faults = [
        Fault(
            f"uses the environment variable {name!r}, which requiredEnv does not name",
            at=("headers", header),
            suggestion="add it to requiredEnv",
        )
        for header, value in headers.items()
        for name in VARIABLE_REFERENCE.findall(value)
        if name not in required_env
    ]
    reason = endpoint_fault(endpoint, allow_private=allow_private)
    if reason is not None:
        hint = "allowPrivate = true allows a server of your own" if "public" in reason else None
        faults.append(Fault(f"SSE endpoint {reason}", at=("endpoint",), suggestion=hint))
    return faults


def header_faults(headers: Mapping[str, str]) -> list[Fault]:
    """What keeps headers from being sent."""
    faults: list[Fault] = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            faults.append(Fault("is no name of an HTTP header", at=(name,)))
        if any(ord(character) < ord(" ") and character != "\t" for character in value):
            faults.append(Fault("has a line break or another control character", at=(name,)))
    return faults


def setting_faults(
    provider: str, allowed: Collection[str], given: Collection[str], base_url: str | None
) -> list[Fault]:
    """Why a provider cannot use its settings, of which only `given` are set."""
    hint = f"{provider} has {', '.join(sorted(allowed))}"
    faults = [
        Fault(f"is no setting of {provider}", at=("setting", key), suggestion=hint)
        for key in given
        if key not in allowed
    ]
    if base_url is not None and "baseUrl" in allowed:
        faults += _base_url_faults(provider, base_url)
    return faults


def _base_url_faults(provider: str, url: str) -> list[Fault]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return [Fault("is not a URL", at=("setting", "baseUrl"))]
    if not host or parts.scheme not in {"http", "https"}:
        return [Fault("must be a URL such as https://example.com", at=("setting", "baseUrl"))]
    if parts.scheme == "http" and provider != "ollama" and host not in LOOPBACK_HOSTS:
        reason = "must use HTTPS (HTTP only for ollama and for this machine)"
        return [Fault(reason, at=("setting", "baseUrl"))]
    return []
