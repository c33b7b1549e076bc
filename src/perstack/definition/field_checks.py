"""Checks of single fields of skills and providers; no text repeats a value."""

import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from perstack.definition.diagnostics import Diagnostic, parse_json
from perstack.definition.references import VARIABLE_REFERENCE, endpoint_error
from perstack.models import is_table

PACKAGE_RUNNERS = frozenset({"npx", "uvx"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_DOMAIN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OBJECT_SCHEMA_HINT = """write a JSON object in single quotes, such as '{"type":"object"}'"""


def check_object_schema(text: str) -> list[Diagnostic]:
    """Why a text is not the JSON Schema of an object.

    Raises:
        InvalidFieldsError: It is not JSON.
    """
    schema = parse_json(text, _OBJECT_SCHEMA_HINT)
    if not is_table(schema) or schema.get("type", "object") != "object":
        return [Diagnostic("must be the schema of an object", _OBJECT_SCHEMA_HINT)]
    if not is_table(schema.get("properties", {})):
        return [Diagnostic("has properties that are no JSON object", _OBJECT_SCHEMA_HINT)]
    return []


def check_domain(domain: str) -> list[Diagnostic]:
    """Why a text is neither a host nor a wildcard of hosts."""
    reason = _domain_error(domain)
    return [Diagnostic(reason)] if reason else []


def _domain_error(domain: str) -> str | None:
    labels = domain.removeprefix("*.").split(".")
    if any(label.lower().startswith("xn--") for label in labels):
        return "is a punycode domain (xn--), which look-alike attacks use; give ASCII domains only"
    if not all(_DOMAIN_LABEL.fullmatch(label) for label in labels):
        return "is no domain pattern; write example.com or *.example.com"
    return None


def check_command(
    command: str, package_name: str | None, args: Collection[str]
) -> list[Diagnostic]:
    """Why a command is ambiguous or cannot be started."""
    if any("\0" in word for word in (command, *args)):
        return [Diagnostic("has a NUL character, which no command can have")]
    if package_name is not None and args:
        return [Diagnostic("has both packageName and args", "give only one of them")]
    if command in PACKAGE_RUNNERS and package_name is None and not args:
        return [Diagnostic("has no packageName or args", "give one of them")]
    return []


def check_remote_server(
    endpoint: str,
    headers: Mapping[str, str],
    required_env: Collection[str],
    *,
    allow_private: bool,
) -> list[Diagnostic]:
    """Why a server cannot be reached over HTTP."""
    errors = [
        Diagnostic(
            f"uses the environment variable {name!r}, which requiredEnv does not name",
            suggestion="add it to requiredEnv",
            key_path=("headers", header),
        )
        for header, value in headers.items()
        for name in VARIABLE_REFERENCE.findall(value)
        if name not in required_env
    ]
    reason = endpoint_error(endpoint, allow_private=allow_private)
    if reason is not None:
        hint = "allowPrivate = true allows a server of your own" if "public" in reason else None
        errors.append(Diagnostic(f"SSE endpoint {reason}", hint, key_path=("endpoint",)))
    return errors


def check_headers(headers: Mapping[str, str]) -> list[Diagnostic]:
    """Why headers cannot be sent."""
    errors: list[Diagnostic] = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            errors.append(Diagnostic("is no name of an HTTP header", key_path=(name,)))
        if any(ord(character) < ord(" ") and character != "\t" for character in value):
            errors.append(
                Diagnostic("has a line break or another control character", key_path=(name,))
            )
    return errors


def check_provider_setting(
    provider: str, allowed: Collection[str], present: Collection[str], base_url: str | None
) -> list[Diagnostic]:
    """Why a provider cannot use its settings, of which only `present` are set."""
    hint = f"{provider} has {', '.join(sorted(allowed))}"
    errors = [
        Diagnostic(f"is no setting of {provider}", hint, key_path=("setting", key))
        for key in present
        if key not in allowed
    ]
    if base_url is not None and "baseUrl" in allowed:
        errors += _check_base_url(provider, base_url)
    return errors


def _check_base_url(provider: str, url: str) -> list[Diagnostic]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return [Diagnostic("is not a URL", key_path=("setting", "baseUrl"))]
    if not host or parts.scheme not in {"http", "https"}:
        return [
            Diagnostic("must be a URL such as https://example.com", key_path=("setting", "baseUrl"))
        ]
    if parts.scheme == "http" and provider != "ollama" and host not in LOOPBACK_HOSTS:
        reason = "must use HTTPS (HTTP only for ollama and for this machine)"
        return [Diagnostic(reason, key_path=("setting", "baseUrl"))]
    return []
