"""The environment variables of child processes: an allow-list, and what is requested by name.

Skills and commands are as untrusted as the text that a model writes. A child does not inherit the
environment of perstack, which holds provider keys, and never gets a variable that makes an
interpreter, a loader, a shell or git run other code.
"""

import re
from collections.abc import Iterable, Mapping

LOCALE_CATEGORIES = (
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
)

INHERITED = frozenset(
    {
        "PATH",
        "HOME",
        "SHELL",
        "TERM",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "TMP",
        "TEMP",
        "TZ",
        "LANG",
        "LANGUAGE",
        *LOCALE_CATEGORIES,
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "PERSTACK_PROXY_URL",
        "NPM_CONFIG_PROXY",
        "NPM_CONFIG_HTTPS_PROXY",
    }
)
"""NODE_PATH is not inherited: it decides which code a server loads."""

UTF8_LOCALE = "C.UTF-8"

PROTECTED = re.compile(
    r"""
      PATH | HOME | SHELL | IFS | ENV | BASH_ENV | BASH_FUNC_.* | BASHOPTS | SHELLOPTS
    | PROMPT_COMMAND | PS4 | ZDOTDIR | GCONV_PATH
    | LD_.* | DYLD_.*
    | NODE_PATH | NODE_OPTIONS | NPM_CONFIG_.*
    | PYTHONPATH | PYTHONHOME | PYTHONSTARTUP | PYTHONUSERBASE | PYTHONBREAKPOINT | PYTHONINSPECT
    | PERL5LIB | PERLLIB | PERL5OPT | PERL5DB | RUBYLIB | RUBYOPT
    | JAVA_TOOL_OPTIONS | JDK_JAVA_OPTIONS | _JAVA_OPTIONS
    | GIT_SSH | GIT_SSH_COMMAND | GIT_EXTERNAL_DIFF | GIT_PROXY_COMMAND | GIT_ASKPASS | SSH_ASKPASS
    | GIT_EXEC_PATH | GIT_TEMPLATE_DIR | GIT_EDITOR | GIT_SEQUENCE_EDITOR | GIT_PAGER
    | GIT_CONFIG | GIT_CONFIG_.*
    | OTEL_EXPORTER_OTLP_(.*_)?HEADERS
    """,
    re.VERBOSE,
)
"""Names, in upper case, that neither `requiredEnv` nor a tool call can set for a child."""

PROVIDER_KEYS = re.compile(
    r"""
      (ANTHROPIC|OPENAI|GOOGLE_GENERATIVE_AI|GOOGLE|GEMINI|FIREWORKS|DEEPSEEK|OLLAMA|AZURE)_API_KEY
    | ANTHROPIC_AUTH_TOKEN | AZURE_(AI|OPENAI)_API_KEY | PERSTACK_API_KEY
    | AWS_ACCESS_KEY_ID | AWS_SECRET_ACCESS_KEY | AWS_SESSION_TOKEN | AWS_BEARER_TOKEN_BEDROCK
    | GOOGLE_APPLICATION_CREDENTIALS
    """,
    re.VERBOSE,
)
"""Credentials of perstack itself, in upper case. Only `requiredEnv` hands them to a skill."""


def child_environment(
    environment: Mapping[str, str],
    required: Iterable[str] = (),
    extra: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The environment of a child process, and the requested names that were refused.

    Args:
        environment: The environment of perstack.
        required: The names in `requiredEnv`; those without a value are left out.
        extra: The variables in a tool call.
    """
    child = {name: environment[name] for name in INHERITED if environment.get(name)}
    child |= _utf8_locale(child)
    refused: list[str] = []
    for name in required:
        if name in INHERITED:
            continue
        if is_protected(name):
            refused.append(name)
        elif value := environment.get(name):
            child[name] = value
    for name, value in (extra or {}).items():
        if is_protected(name) or is_provider_key(name):
            refused.append(name)
        else:
            child[name] = value
    return child, tuple(refused)


def _utf8_locale(child: Mapping[str, str]) -> dict[str, str]:
    """What gives a child UTF-8 where nobody chose a locale: MCP and our own pipes are UTF-8."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    chosen = next((name for name in names if name in child), None)
    if chosen is None:
        return {"LANG": UTF8_LOCALE}
    if chosen != "LC_ALL" and child[chosen] in {"C", "POSIX"}:
        # As Python does for itself: with LC_ALL alone somebody asks for ASCII on purpose.
        return {"LC_CTYPE": UTF8_LOCALE}
    return {}


def is_protected(name: str) -> bool:
    return PROTECTED.fullmatch(name.upper()) is not None


def is_provider_key(name: str) -> bool:
    return PROVIDER_KEYS.fullmatch(name.upper()) is not None
