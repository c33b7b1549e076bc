"""Two sibling packages never import each other: one of them is below the other."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
CONTAINERS = [
    path.parent.relative_to(SRC).as_posix()
    for path in sorted((SRC / "perstack").rglob("__init__.py"))
]


def imported(path: Path, src: Path) -> Iterator[str]:
    """The modules of the package that a file imports, as paths below `src`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}".replace(".", "/")
                yield name if (src / f"{name}.py").is_file() else node.module.replace(".", "/")
        elif isinstance(node, ast.Import):
            yield from (alias.name.replace(".", "/") for alias in node.names)


def member(module: str, container: str) -> str | None:
    """The module or package directly in `container` that holds `module`."""
    if not module.startswith(f"{container}/"):
        return None
    return module.removeprefix(f"{container}/").partition("/")[0]


def two_way(container: str, src: Path) -> list[str]:
    """The pairs in `container` that import each other, where one is a package at least."""
    arrows: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for path in (src / container).rglob("*.py"):
        module = path.relative_to(src).with_suffix("").as_posix()
        source = member(module, container)
        for target in (member(name, container) for name in imported(path, src)):
            if source and target and source not in (target, "__init__"):
                arrows[source, target].add(module)
    return sorted(
        f"{one} <-> {other}: {', '.join(sorted(arrows[one, other] | arrows[other, one]))}"
        for one, other in arrows
        if one < other and (other, one) in arrows
    )


@pytest.mark.parametrize("container", CONTAINERS)
def test_no_two_neighbours_import_each_other(container: str) -> None:
    assert two_way(container, SRC) == []


def test_two_packages_that_import_each_other_are_found(tmp_path: Path) -> None:
    for name, line in (("a", "from top.b.two import x"), ("b", "from top.a import one")):
        (tmp_path / "top" / name).mkdir(parents=True)
        for module in ("one", "two"):
            (tmp_path / "top" / name / f"{module}.py").write_text(line, encoding="utf-8")

    assert two_way("top", tmp_path) == ["a <-> b: top/a/one, top/a/two, top/b/one, top/b/two"]
