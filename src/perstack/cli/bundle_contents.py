"""What a bundle holds beside the definition: the files that it names, and this package."""

import csv
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from io import BytesIO, StringIO
from pathlib import Path

from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import McpStdioSkill
from perstack.errors import ConfigError
from perstack.models import table_or_empty, value_at

PACKAGE = "perstack"
ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The time of every file, so that the same content makes the same archive."""

_METADATA_FILES = ("METADATA", "entry_points.txt")
_WHEEL_FACTS = """\
Wheel-Version: 1.0
Generator: perstack
Root-Is-Purelib: true
Tag: py3-none-any
"""
_SYSTEM_FOLDERS = (Path("/bin"), Path("/usr/bin"))


class _UnpackableError(Exception):
    """A file cannot go into a bundle; the text is the end of a sentence about it."""


def named_files(loaded: LoadedDefinitions) -> dict[str, Path]:
    """The files that a definition names, by their paths relative to it.

    Raises:
        ConfigError: Some of them cannot go into a bundle.
    """
    folder = loaded.path.parent
    files: dict[str, Path] = {}
    problems: list[str] = []
    for key, word in _named_paths(loaded):
        try:
            path = _packable_file(folder, word)
        except _UnpackableError as problem:
            problems.append(f"{key}: {word!r} {problem}")
            continue
        if path is not None:
            files[path.relative_to(folder.resolve()).as_posix()] = path
    if problems:
        raise ConfigError(
            f"{loaded.path} names what cannot go into a bundle: {'; '.join(problems)}.",
            hint="Put single files beside the definition, or start skills as packages, with npx "
            "or uvx.",
        )
    return files


def _named_paths(loaded: LoadedDefinitions) -> Iterator[tuple[str, str]]:
    """The words of the definition that may be paths, each with its key."""
    definitions = loaded.definitions
    if definitions.provider.setting.script is not None:
        yield "provider.setting.script", f"./{definitions.provider.setting.script}"
    for word in definitions.perstack_base_skill_command or ():
        yield "perstackBaseSkillCommand", _path_in(word)
    for key, expert in definitions.experts.items():
        for name, skill in expert.skills.items():
            if isinstance(skill, McpStdioSkill):
                at = f'experts."{key}".skills."{name}"'
                yield f"{at}.command", skill.command
                yield from ((f"{at}.args", _path_in(word)) for word in skill.args)
    # Loading has replaced the paths of icons by their content.
    source = tomllib.loads(loaded.path.read_text(encoding="utf-8-sig"))
    for key in table_or_empty(source.get("experts")):
        icon = value_at(source, ("experts", key, "tool", "icon"))
        if isinstance(icon, str) and not icon.startswith(("data:", "https:")):
            yield f'experts."{key}".tool.icon', f"./{icon}"


def _path_in(word: str) -> str:
    """The value of an option such as `--config=FILE`, or the word itself."""
    return word.partition("=")[2] if word.startswith("-") and "=" in word else word


def _packable_file(folder: Path, word: str) -> Path | None:
    """The file that a word names; `None` if it seems to name none.

    Raises:
        _UnpackableError: It names one that cannot go into a bundle.
    """
    given = Path(word).expanduser() if word.startswith("~") else Path(word)
    path = (folder / given).resolve()
    if not path.exists():
        if word.startswith(("./", "../")):
            raise _UnpackableError("is not there")
        return None
    if given.is_absolute():
        if given.parent in _SYSTEM_FOLDERS:
            return None
        raise _UnpackableError("is a path of this machine")
    if path == folder.resolve():
        return None
    if not path.is_relative_to(folder.resolve()):
        raise _UnpackableError(f"lies outside of {folder}")
    if path.is_dir():
        raise _UnpackableError("is a folder")
    if path.name.startswith(".env"):
        raise _UnpackableError("may hold keys")
    return path


def own_wheel() -> tuple[str, bytes]:
    """The name and the content of a wheel of this program, as it is installed.

    Raises:
        ConfigError: It is not installed as a package.
    """
    try:
        installed = distribution(PACKAGE)
        files = _wheel_files(installed)
    except (PackageNotFoundError, OSError) as error:
        raise ConfigError(
            f"This perstack is not installed as a package, so it cannot come along: {error}.",
            hint="Give a wheel of it with --wheel.",
        ) from error
    info = f"{PACKAGE}-{installed.version}.dist-info"
    record = StringIO(newline="")
    rows = csv.writer(record, lineterminator="\n")
    for name, content in files.items():
        digest = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    files[f"{info}/RECORD"] = record.getvalue().encode()
    return f"{PACKAGE}-{installed.version}-py3-none-any.whl", zip_files(files)


def _wheel_files(installed: Distribution) -> dict[str, bytes]:
    package = Path(__file__).parents[1]
    files = {
        f"{PACKAGE}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"{PACKAGE}-{installed.version}.dist-info"
    for name in _METADATA_FILES:
        text = installed.read_text(name)
        if text is None:
            raise FileNotFoundError(f"{info}/{name} is missing")
        files[f"{info}/{name}"] = text.encode()
    files[f"{info}/WHEEL"] = _WHEEL_FACTS.encode()
    return files


def check_wheel(name: str, content: bytes) -> None:
    """See that a file is a wheel of perstack.

    Raises:
        ConfigError: It is not.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    is_own = name.startswith(f"{PACKAGE}-") and name.endswith(".whl")
    if not is_own or f"{PACKAGE}/__init__.py" not in names:
        raise ConfigError(
            f"{name} is no wheel of perstack.", hint="Make one with: uv build --wheel"
        )


def zip_files(files: Mapping[str, bytes], executable: frozenset[str] = frozenset()) -> bytes:
    """An archive of files by their names; the same files make the same bytes."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, ZIP_TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name in executable else 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
