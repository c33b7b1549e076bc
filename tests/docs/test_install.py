"""The README's way to install the command for oneself."""

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "definitions")


@pytest.mark.external
@pytest.mark.timeout(300)
def test_pip_installs_a_command_that_brings_its_definitions(tmp_path: Path) -> None:
    checkout = tmp_path / "perstack"
    checkout.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / name)
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"

    subprocess.run([bin_ / "pip", "install", "-q", "."], cwd=checkout, check=True)
    shutil.rmtree(checkout)

    version = subprocess.run([bin_ / "perstack", "--version"], capture_output=True, check=True)
    assert version.stdout.startswith(b"perstack ")
    quickstart = next(tmp_path.glob("venv/lib/*/site-packages/perstack/definitions/quickstart"))
    checked = subprocess.run(
        [bin_ / "perstack", "check"], cwd=quickstart, capture_output=True, check=False
    )
    # What the skills of the definitions start is not on every machine, and need not be.
    assert checked.returncode == 0, checked.stderr
