"""litellm in a process of its own: what it prints, when it is loaded, and how the process ends."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

USE = """
import asyncio
import os
import sys
import anyio
from perstack.definition.model import Definitions
from perstack.errors import ModelError
from perstack.llm.litellm_model import LiteLlmModel
from perstack.llm.selection import create_model_selector
from tests.llm.conversation import Listener, ask, provider_at
from tests.model_server import HttpError, Malformed, Reply, call, model_server

async def main():
    # Development mode reports steps of the loop that are slow, which on a busy machine any may be.
    asyncio.get_running_loop().slow_callback_duration = float("inf")
    definitions = Definitions()
    selector = create_model_selector(definitions, provider=definitions.provider)
    model = LiteLlmModel(selector, {"OPENAI_API_KEY": "invented-key"})
    faults = [HttpError(401, "no"), HttpError(500), Malformed()]
    script = [Reply("3"), call("add"), *faults, Reply("4")]
    async with model_server(script) as server:
        at = provider_at("openai", server.base_url + "/v1")
        for heard in (None, Listener(), None, Listener(), None, None):
            try:
                await model.generate(ask(at, model="a-model-nobody-knows"), heard)
            except ModelError:
                pass
    await model.aclose()

before = set(os.environ)
assert "litellm" not in sys.modules
anyio.run(main)
assert "litellm" in sys.modules
assert {name for name in os.environ if name not in before} <= {
    "LITELLM_MODE",
    "LITELLM_LOCAL_MODEL_COST_MAP",
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER",
    "TIKTOKEN_CACHE_DIR",
}, set(os.environ) - before
"""

DIRECT = """
import asyncio
import sys
import anyio
from perstack.definition.model import Definitions
from perstack.llm.model_factory import open_model
from tests.llm.conversation import Listener, ask
from tests.llm.endpoint import ENVIRONMENT, MODELS, provider
from tests.llm.google_cloud import google_cloud
from tests.model_server import Reply, model_server

async def main(environment):
    # As above: on a busy machine any step may be slow.
    asyncio.get_running_loop().slow_callback_duration = float("inf")
    model = open_model(definitions=Definitions(), environment=environment)
    await model.warm_up()
    async with model_server(Reply("3")) as server:
        for name, model_name in MODELS.items():
            for heard in (None, Listener()):
                reply = await model.generate(ask(provider(server, name), model=model_name), heard)
                assert reply.text == "3"
    await model.aclose()

with google_cloud() as google:
    anyio.run(main, {**ENVIRONMENT, **google.environment})
heavy = {"litellm", "httpx", "openai"} & set(sys.modules)
assert not heavy, heavy
"""

IMPORT = """
import sys
import perstack.llm.model_factory
heavy = {"litellm", "httpx", "aiohttp", "openai", "google.auth"} & set(sys.modules)
assert not heavy, heavy
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        encoding="utf-8",
    )


def test_calls_good_and_bad_print_nothing_and_leave_nothing_open() -> None:
    done = run(USE)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_direct_provider_needs_litellm() -> None:
    done = run(DIRECT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_models_are_imported_without_litellm() -> None:
    done = run(IMPORT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
