"""What holds for every test: one event loop back end, no paid model, plain child processes."""

import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, and that is no failure. With CI set, Hypothesis brings the same itself.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
if "CI" not in os.environ:
    settings.load_profile("any machine")

PROVIDER_CREDENTIAL = re.compile(
    r"""
      .*_API_KEY | .*_AUTH_TOKEN | .*_BEARER_TOKEN.*
    | AWS_.* | AZURE_.* | GOOGLE_APPLICATION_CREDENTIALS | VERTEX.*
    """,
    re.VERBOSE,
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The back end of the product: litellm runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_provider_credentials() -> Iterator[None]:
    """A developer's own keys are out of reach, also for the processes that tests start."""
    removed = {name: os.environ.pop(name) for name in list(os.environ) if is_credential(name)}
    yield
    os.environ.update(removed)


def is_credential(name: str) -> bool:
    return PROVIDER_CREDENTIAL.fullmatch(name) is not None


@pytest.fixture(scope="session", autouse=True)
def children_are_as_users_have_them() -> Iterator[None]:
    """The strict handling of encodings is for this process, not for those that tests start."""
    strict = os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
    yield
    if strict is not None:
        os.environ["PYTHONWARNDEFAULTENCODING"] = strict
