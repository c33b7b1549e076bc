"""No path leads out of the workspace or into perstack's own folder, whatever tool is given it."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from perstack.core.messages import ToolResult
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask, facts_of, put, told
from tests.skills.builtin.conftest import CANARY

pytestmark = pytest.mark.anyio

# Each tool with each of its paths, `{}` in the place of the one that tries to escape.
ATTEMPTS: list[tuple[str, dict[str, object]]] = [
    ("readTextFile", {"path": "{}"}),
    ("readImageFile", {"path": "{}"}),
    ("readPdfFile", {"path": "{}"}),
    ("writeTextFile", {"path": "{}", "text": "overwritten"}),
    ("appendTextFile", {"path": "{}", "text": "overwritten"}),
    ("editTextFile", {"path": "{}", "oldText": CANARY, "newText": "overwritten"}),
    ("moveFile", {"source": "{}", "destination": "stolen"}),
    ("moveFile", {"source": "mine.txt", "destination": "{}"}),
    ("deleteFile", {"path": "{}"}),
    ("getFileInfo", {"path": "{}"}),
    ("listDirectory", {"path": "{}"}),
    ("globFiles", {"pattern": "*", "path": "{}"}),
    ("grepFiles", {"pattern": CANARY, "path": "{}"}),
    ("createDirectory", {"path": "{}"}),
    ("deleteDirectory", {"path": "{}", "recursive": True}),
    ("exec", {"command": "ls", "cwd": "{}"}),
]
NAMES = [f"{tool}.{next(k for k, v in args.items() if v == '{}')}" for tool, args in ATTEMPTS]
# These act on a link itself and not on what it leads to.
ACT_ON_LINKS = {"deleteFile", "moveFile"}

every_attempt = pytest.mark.parametrize(("tool", "template"), ATTEMPTS, ids=NAMES)


def filled(template: dict[str, object], path: str) -> dict[str, object]:
    return {key: path if value == "{}" else value for key, value in template.items()}


def picture(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, to be compared with later."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


async def attempt(
    skill: BuiltInSkill, workspace: Path, tool: str, args: dict[str, object]
) -> ToolResult:
    """Make an attempt and see that neither forbidden folder changed and no secret came out."""
    forbidden = (workspace.parent / "outside", workspace / "perstack")
    before = [picture(folder) for folder in forbidden]

    result = await ask(skill, tool, **args)

    assert [picture(folder) for folder in forbidden] == before
    assert CANARY not in result.text
    assert "secret.txt" not in facts_of(result).get("output", "")
    return result


@every_attempt
@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../outside",
        "../outside/secret.txt",
        "inner/../../outside/secret.png",
        "./.././outside/secret.pdf",
        "/etc/passwd",
        "/",
        "//etc/passwd",
        "~",
        "~/secret.txt",
        "{workspace}/../outside/secret.txt",
        "{workspace}-sibling/secret.txt",
        "../workspace-sibling",
    ],
)
async def test_a_path_that_leads_outside_is_refused(
    skill: BuiltInSkill, workspace: Path, tool: str, template: dict[str, object], path: str
) -> None:
    put(workspace, "mine.txt", "mine")

    args = filled(template, path.replace("{workspace}", str(workspace)))
    result = await attempt(skill, workspace, tool, args)

    assert result.is_error
    facts = facts_of(result)
    assert facts["error"] == "AccessDenied"
    assert "Access denied - path outside allowed directories" in facts["message"]


@every_attempt
@pytest.mark.parametrize(
    "path",
    [
        "perstack",
        "perstack/",
        "perstack/store.txt",
        "./perstack/store.txt",
        "PERSTACK/store.txt",
        "Perstack",
        "per\u017ftack/store.txt",
        "inner/../perstack/store.txt",
        "{workspace}/perstack/store.txt",
    ],
)
async def test_the_own_folder_of_perstack_is_closed(
    skill: BuiltInSkill, workspace: Path, tool: str, template: dict[str, object], path: str
) -> None:
    put(workspace, "mine.txt", "mine")
    # Where letters of both cases name the same folder this is that folder, elsewhere it is another.
    (workspace / "PERSTACK").mkdir(exist_ok=True)

    args = filled(template, path.replace("{workspace}", str(workspace)))
    result = await attempt(skill, workspace, tool, args)

    assert result.is_error
    assert facts_of(result)["message"] == "Access denied - perstack directory is not allowed."


@every_attempt
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("../outside", "link/secret.txt"),
        ("{outside}", "link/secret.png"),
        ("{outside}", "link/new"),
        ("..", "link/outside/secret.txt"),
        ("../outside", "link/../link/secret.txt"),
        ("perstack", "link/store.txt"),
        ("{workspace}/perstack", "link/store.txt"),
        (".", "link/perstack/store.txt"),
        (".", "link/perstack"),
        (".", "link/link/link/perstack/store.txt"),
        ("inner/../perstack", "link/store.txt"),
    ],
)
async def test_a_link_on_the_way_leads_neither_outside_nor_into_the_own_folder(
    skill: BuiltInSkill,
    workspace: Path,
    tool: str,
    template: dict[str, object],
    target: str,
    path: str,
) -> None:
    put(workspace, "mine.txt", "mine")
    place = {"outside": str(workspace.parent / "outside"), "workspace": str(workspace)}
    (workspace / "link").symlink_to(target.format(**place))

    result = await attempt(skill, workspace, tool, filled(template, path))

    assert result.is_error
    assert facts_of(result)["error"] == "AccessDenied"


@every_attempt
@pytest.mark.parametrize(
    "target",
    [
        "../outside",
        "{outside}",
        "{outside}/secret.txt",
        "{outside}/secret.png",
        "{outside}/new",
        "perstack",
        "perstack/store.txt",
        "{workspace}/perstack",
    ],
)
async def test_a_link_itself_opens_nothing_that_is_closed(
    skill: BuiltInSkill,
    workspace: Path,
    tool: str,
    template: dict[str, object],
    target: str,
) -> None:
    put(workspace, "mine.txt", "mine")
    suffix = {"readImageFile": ".png", "readPdfFile": ".pdf"}.get(tool, "")
    place = {"outside": str(workspace.parent / "outside"), "workspace": str(workspace)}
    (workspace / f"alias{suffix}").symlink_to(target.format(**place))

    result = await attempt(skill, workspace, tool, filled(template, f"alias{suffix}"))

    assert result.is_error or tool in ACT_ON_LINKS


@every_attempt
@pytest.mark.parametrize("path", ["a", "a/inner.txt"])
async def test_links_that_go_in_circles_are_given_up(
    skill: BuiltInSkill, workspace: Path, tool: str, template: dict[str, object], path: str
) -> None:
    put(workspace, "mine.txt", "mine")
    (workspace / "a").symlink_to("b")
    (workspace / "b").symlink_to("a")

    result = await attempt(skill, workspace, tool, filled(template, path))

    assert result.is_error or tool in ACT_ON_LINKS


async def test_links_that_stay_inside_work_for_reading_and_on_the_way(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "real/deep/a.txt", "hello")
    (workspace / "short").symlink_to("real/deep")
    (workspace / "absolute").symlink_to(workspace / "real")
    (workspace / "real/up").symlink_to("../real/deep/a.txt")

    for path in ("short/a.txt", "absolute/deep/a.txt", "real/up", "absolute/up"):
        facts = await told(skill, "readTextFile", path=path)
        assert (facts["path"], facts["content"]) == ("real/deep/a.txt", "hello")
    await told(skill, "writeTextFile", path="short/b.txt", text="new")
    assert (workspace / "real/deep/b.txt").read_text(encoding="utf-8") == "new"
    output = (await told(skill, "exec", command="pwd", args=["-P"], cwd="short"))["output"]
    assert output.strip() == str(workspace.resolve() / "real/deep")


@pytest.mark.parametrize("tool", ["writeTextFile", "appendTextFile", "editTextFile"])
async def test_nothing_is_written_through_a_link(
    skill: BuiltInSkill, workspace: Path, tool: str
) -> None:
    path = put(workspace, "real.txt", "hello")
    (workspace / "link.txt").symlink_to("real.txt")
    text = {"oldText": "hello", "newText": "bye"} if tool == "editTextFile" else {"text": "bye"}

    result = await ask(skill, tool, path="link.txt", **text)

    assert facts_of(result)["message"] == (
        "Operation denied: target is a symbolic link: link.txt. Use the path it leads to."
    )
    assert path.read_text(encoding="utf-8") == "hello"


class Swapper:
    """Exchanges a folder for a link that leads to `target` and back, as fast as it can."""

    def __init__(self, workspace: Path, target: Path) -> None:
        self._folder = workspace / "folder"
        self._spare = workspace / "spare"
        self._link = workspace / "link"
        self._folder.mkdir()
        self._link.symlink_to(target)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._swap)
        self.swaps = 0

    def __enter__(self) -> "Swapper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _swap(self) -> None:
        while not self._stopped.is_set():
            # The tools under test make and delete things in between, so any step may fail.
            shutil.rmtree(self._spare, ignore_errors=True)
            renamed(self._folder, self._spare)
            self.swaps += renamed(self._link, self._folder)
            if self._folder.is_symlink():
                renamed(self._folder, self._link)
            renamed(self._spare, self._folder)


def renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("target", ["outside", "workspace/perstack"])
async def test_a_folder_that_is_swapped_for_a_link_meanwhile_does_not_lead_outside(
    skill: BuiltInSkill, workspace: Path, target: str
) -> None:
    place = workspace.parent / target
    secret = "secret.txt" if target == "outside" else "store.txt"
    before = picture(place)

    path = f"folder/{secret}"
    attempts: list[tuple[str, dict[str, object]]] = [
        ("readTextFile", {"path": path}),
        ("writeTextFile", {"path": path, "text": "mine"}),
        ("editTextFile", {"path": path, "oldText": CANARY, "newText": "mine"}),
        ("appendTextFile", {"path": path, "text": "mine"}),
        ("moveFile", {"source": path, "destination": "folder/moved/there.txt"}),
        ("listDirectory", {"path": "folder"}),
        ("createDirectory", {"path": "folder/made/deeper"}),
        ("deleteDirectory", {"path": "folder/made", "recursive": True}),
        ("deleteFile", {"path": path}),
    ]
    with Swapper(workspace, place) as swapper:
        for _ in range(100):
            for tool, args in attempts:
                result = await ask(skill, tool, **args)
                assert CANARY not in result.text

    assert swapper.swaps > 0
    assert picture(place) == before


async def test_a_command_does_not_start_in_a_folder_that_was_swapped_for_a_link(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    with Swapper(workspace, outside) as swapper:
        for _ in range(60):
            result = await ask(skill, "exec", command="ls", cwd="folder")
            assert "secret.txt" not in result.text

    assert swapper.swaps > 0


async def test_a_hard_link_out_of_the_workspace_is_cut_and_not_written_through(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    os.link(outside / "secret.txt", workspace / "inner.txt")

    await told(skill, "writeTextFile", path="inner.txt", text="mine")

    assert (outside / "secret.txt").read_text(encoding="utf-8") == CANARY
