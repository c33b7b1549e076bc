"""Experts declared in `perstack.toml`, run durably and published as MCP tools."""

# Names of `__all__` are provided by `__getattr__`:
# pyright: reportUnsupportedDunderAll=false

from importlib import import_module

__version__ = "0.1.0"

RUNTIME_VERSION = "1.0.0"
"""The version of the definition language, which `minRuntimeVersion` is compared with."""

__all__ = [
    "JobRequest",
    "JobView",
    "PerstackError",
    "Settings",
    "__version__",
    "open_engine",
    "run",
    "stream",
]

# Loaded when first used: the version alone must not cost the engine. What type checkers see is
# __init__.pyi.
_MODULE_BY_EXPORT = {
    "JobRequest": "perstack.runtime.start_plan",
    "JobView": "perstack.jobs",
    "PerstackError": "perstack.errors",
    "Settings": "perstack.settings",
    "open_engine": "perstack.engine",
    "run": "perstack.library",
    "stream": "perstack.library",
}


def __getattr__(name: str) -> object:
    module_name = _MODULE_BY_EXPORT.get(name)
    if module_name is None:
        raise AttributeError(f"module 'perstack' has no attribute {name!r}")
    return getattr(import_module(module_name), name)
