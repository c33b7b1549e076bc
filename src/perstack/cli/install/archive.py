"""The files of an `.mcpb` bundle, and the archive that they make."""

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from perstack import __version__
from perstack.cli.install.manifest import DEFINITION, ENTRY_POINT, manifest
from perstack.cli.install.snippet import pretty
from perstack.definition.load import Loaded
from perstack.errors import ConfigError

START = '''"""Starts perstack on the definition of this bundle."""

import sys
from pathlib import Path

from perstack.cli.main import main

DEFINITION = Path(__file__).parents[1] / "perstack.toml"

raise SystemExit(main(["serve", "--config", str(DEFINITION), *sys.argv[1:]]))
'''
OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file, so that the same definition makes the same archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What people and machines call a bundle.

    Attributes:
        name: For machines: lower-case letters, digits and hyphens.
        title: For people.
        author: Who made it.
    """

    name: str
    title: str
    author: str


def bundle(loaded: Loaded, labels: Labels, wheel: Path | None) -> bytes:
    """The archive.

    Args:
        loaded: The definition that goes into it.
        labels: What it is called.
        wheel: A wheel of perstack to take along; else the client fetches the package.

    Raises:
        ConfigError: A file cannot be read.
    """
    described = manifest(
        loaded.definitions, name=labels.name, title=labels.title, author=labels.author
    )
    files = {
        "manifest.json": pretty(described).encode(),
        "pyproject.toml": _project(labels.name, wheel).encode(),
        ENTRY_POINT: START.encode(),
        DEFINITION: _content(loaded.path),
    }
    if wheel is not None:
        files[wheel.name] = _content(wheel)
    script = loaded.definitions.provider.setting.script
    if script is not None:
        files[script] = _content(loaded.path.parent / script)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, OLDEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def _project(name: str, wheel: Path | None) -> str:
    requirement = "perstack" if wheel is not None else f"perstack=={__version__}"
    lines = [
        "[project]",
        f'name = "{name}-bundle"',
        f'version = "{__version__}"',
        'requires-python = ">=3.11"',
        f'dependencies = ["{requirement}"]',
    ]
    if wheel is not None:
        lines += ["", "[tool.uv.sources]", f'perstack = {{ path = "{wheel.name}" }}']
    return "\n".join(lines) + "\n"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
