"""What the arguments about models decide, for every command that has them."""

from argparse import Namespace

from perstack.cli.arguments import env_paths
from perstack.settings import Settings


def model_settings(options: Namespace) -> Settings:
    """Who generates, how long and how often; to be completed with what else a command decides."""
    return Settings(
        env_paths=env_paths(options),
        provider=options.provider,
        model=options.model,
        reasoning_budget=options.reasoning_budget,
        max_steps=options.max_steps,
        max_retries=options.max_retries,
        timeout_ms=options.timeout,
    )
