"""What a glob pattern stands for."""

import pytest

from perstack.skills.builtin.glob import Glob


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.py", ["a.py", "x/y/a.py", ".py"], ["a.pyc", "a.py/b"]),
        ("**/*.py", ["a.py", "x/a.py", "x/y/a.py"], ["x/apy"]),
        ("*/*.py", ["a/b.py"], ["b.py", "a/b/c.py"]),
        ("./docs/*.md", ["docs/a.md"], ["a.md", "docs/x/a.md"]),
        ("src/**", ["src/a", "src/b/c"], ["srca", "x/src/a"]),
        ("src/*.{js,ts}", ["src/a.js", "src/b.ts"], ["src/x/a.js", "src/a.jsx", "src/a.{js,ts}"]),
        ("**/test_*/**/*.md", ["test_a/x.md", "q/test_a/b/c/x.md"], ["test/x.md"]),
        ("a?c", ["abc", "a.c"], ["ac", "abbc"]),
        ("a[!b-c].txt", ["ad.txt"], ["ab.txt", "ac.txt"]),
        ("a[b-c].txt", ["ab.txt"], ["ad.txt"]),
        ("[]x].t", ["].t", "x.t"], ["a.t"]),
        ("a[.txt", ["a[.txt"], ["a.txt"]),
        ("{a,b", ["{a,b"], ["a", "b"]),
        ("a,b", ["a,b"], ["a"]),
        ("(1)+$^.|x", ["(1)+$^.|x"], ["1", "x"]),
        (r"a\d", [r"a\d"], ["a1"]),
        ("日本*", ["日本語.txt"], ["本"]),
    ],
)
def test_a_pattern_matches_these_paths_and_not_those(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    glob = Glob(pattern)

    assert [path for path in matching if not glob.matches(path)] == []
    assert [path for path in others if glob.matches(path)] == []


def test_a_pattern_with_many_stars_takes_no_time() -> None:
    assert not Glob("*a" * 40).matches("a" * 200 + "b")
    assert not Glob("**/a/" * 12 + "x").matches("a/" * 2_000 + "y")
