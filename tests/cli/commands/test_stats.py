"""`perstack stats`: what jobs add up to."""

import io
import json
import re
from array import array
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.analysis.statistics import GroupedStats, Stats
from perstack.cli.commands.stats import StatsReport, print_stats
from perstack.cli.terminal import Terminal
from perstack.runtime.ports import SystemClock
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.cli.harness import Outcome, Stage, calls, done, says
from tests.store.sample_job import RunStory, write

DAY_MS = 24 * 60 * 60 * 1000


def worked(here: Stage) -> None:
    """Let one job succeed with a delegate and a tool that fails, one fail, and one wait."""
    here.plays(
        a=[calls("x", query="help"), calls("readTextFile", path="nowhere"), says("all done")],
        a_x=[done("helped")],
    )
    assert here.runs("a", "q").code == 0
    here.plays(a=[{"error": {"message": "refused", "status": 401}}])
    assert here.runs("a", "q").code == 1
    here.plays(a=[calls("askUser")])
    assert here.runs("a", "q").code == 3


def stats(here: Stage, *words: str) -> Outcome:
    return here.types("stats", *words, "--workspace", str(here.folder))


def document(here: Stage, *words: str) -> dict[str, Any]:
    out = stats(here, "--json", *words)
    assert (out.code, out.stderr) == (0, "")
    return json.loads(out.stdout)


def test_jobs_are_added_up(here: Stage) -> None:
    worked(here)
    found = document(here)
    total = found["total"]
    assert found["storagePath"] == str(store_path(here.folder))
    assert total["jobs"] == {
        "total": 3,
        "byStatus": {"completed": 1, "stoppedByError": 1, "stoppedByInteractiveTool": 1},
        "ended": 2,
        "successRate": 0.5,
    }
    assert total["runs"]["total"] == 4
    assert total["steps"] == 6
    assert total["errors"] == {"total": 1, "byName": {"AuthenticationError": 1}}
    tools = {tool["toolName"]: (tool["calls"], tool["failures"]) for tool in total["tools"]}
    assert tools == {"x": (1, 0), "attemptCompletion": (1, 0), "readTextFile": (1, 1)}
    assert total["jobMs"]["count"] == 2
    assert total["generationMs"]["count"] == 6
    assert total["toolMs"]["count"] == 1


def test_the_figures_of_jobs_are_those_of_their_log(here: Stage) -> None:
    worked(here)
    jobs = json.loads(here.logs("--jobs", "--json").stdout)
    total = document(here)["total"]
    for name in ("inputTokens", "outputTokens", "totalTokens"):
        assert total["usage"][name] == sum(job["usage"][name] for job in jobs) > 0
    assert total["steps"] == sum(job["totalSteps"] for job in jobs)


def test_groups_have_the_same_figures_and_add_up_to_the_total(here: Stage) -> None:
    worked(here)
    found = document(here)
    assert set(found["groups"]) == {"expert", "model", "day"}
    for groups in found["groups"].values():
        for name in ("jobs", "runs"):
            assert sum(group[name]["total"] for group in groups) == found["total"][name]["total"]
        assert sum(group["steps"] for group in groups) == found["total"]["steps"]
    experts = {group["key"]: group for group in found["groups"]["expert"]}
    assert (experts["a"]["jobs"]["total"], experts["@a/x"]["jobs"]["total"]) == (3, 0)
    assert set(document(here, "--by", "model")["groups"]) == {"model"}


def test_people_get_a_summary_and_a_line_for_each_tool(here: Stage) -> None:
    worked(here)
    out = stats(here).stdout
    assert re.search(r"^jobs +3: .*completed 1 \(33\.3%\)", out, re.MULTILINE)
    assert re.search(r"^succeeded +50\.0% of 2 that have ended$", out, re.MULTILINE)
    assert re.search(r"^errors +1: AuthenticationError 1$", out, re.MULTILINE)
    assert re.search(r"^@perstack/base readTextFile +1 +100\.0%$", out, re.MULTILINE)
    assert re.search(r"^generation +median \d+ ms, p95 \d+ ms$", out, re.MULTILINE)


def test_a_group_is_a_line_of_a_table(here: Stage) -> None:
    worked(here)
    lines = stats(here, "--by", "expert").stdout.splitlines()
    (head,) = (line for line in lines if line.startswith("expert "))
    first, second = lines[lines.index(head) + 1 :]
    assert re.match(r"a +3 +3 +33\.3% +5 ", first)
    assert re.match(r"@a/x +0 +1 +100\.0% +1 ", second)
    assert not any("readTextFile" in line for line in lines)


def test_only_the_last_days_are_counted_if_so_asked(here: Stage) -> None:
    now = SystemClock().now_ms()

    async def write_three() -> None:
        async with open_sqlite_store(store_path(here.folder)) as store:
            for number, days in enumerate((0.5, 2.5, 40)):
                run = RunStory(f"job{number}", f"run{number}", at=now - int(days * DAY_MS))
                await write(store, run.start(), run.generate(), run.complete())

    anyio.run(write_three)
    counted = [
        document(here, *words)["total"]["jobs"]["total"]
        for words in ((), ("--since", "1"), ("--since", "3"), ("--since", "365"))
    ]
    assert counted == [3, 1, 2, 3]
    days = [group["key"] for group in document(here)["groups"]["day"]]
    assert len(days) == 3
    assert days == sorted(days)
    assert stats(here, "--since", "0").code == 2


def test_nothing_since_then_is_no_error(here: Stage) -> None:
    run = RunStory()

    async def write_one() -> None:
        async with open_sqlite_store(store_path(here.folder)) as store:
            await write(store, run.start(), run.cancel())

    anyio.run(write_one)
    out = stats(here, "--since", "1")
    assert (out.code, out.stderr) == (0, "")
    assert re.search(r"^jobs +0$", out.stdout, re.MULTILINE)
    assert document(here, "--since", "1")["total"]["jobs"]["successRate"] is None


def test_a_workspace_without_jobs_has_no_data(here: Stage) -> None:
    out = stats(here)
    assert (out.code, out.stdout) == (2, "")
    assert "No data found" in out.stderr


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_949, "59.9 s"),
        (60_000, "1 min 00 s"),
        (3_599_999, "59 min 59 s"),
        (3_600_000, "1 h 00 min"),
        (90_061_000, "25 h 01 min"),
    ],
)
def test_durations_are_told_in_fitting_units(milliseconds: int, words: str) -> None:
    survey = GroupedStats(str)
    survey.total = Stats(job_ms=array("q", [milliseconds]))
    found = StatsReport(storage=Path("store.db"), since_ms=None, grouped_stats=survey, by=None)
    assert f"job          median {words}, p95 {words}" in shown(found)


def shown(statistics: StatsReport) -> str:
    """The figures as people see them."""
    stdout, stderr = io.StringIO(), io.StringIO()
    print_stats(
        statistics, Terminal(stdin=io.StringIO(), stdout=stdout, stderr=stderr), is_json=False
    )
    return stdout.getvalue()


@pytest.mark.parametrize(
    ("known", "unpriced", "words"),
    [
        (0.0123, 12_000, "at least $0.0123; the price of 12,000 tokens is not known"),
        (1234.5, 0, "$1,234.50"),
        (0.0, 0, "$0.00"),
        (0.0, 1, "unknown"),
    ],
)
def test_a_cost_is_the_sum_of_what_is_known(known: float, unpriced: int, words: str) -> None:
    grouped = GroupedStats(str)
    grouped.total = Stats(known_cost_usd=known, unpriced_tokens=unpriced)
    found = StatsReport(storage=Path("store.db"), since_ms=None, grouped_stats=grouped, by=None)
    assert f"cost         {words}\n" in shown(found)


def test_generations_cost_what_the_file_says(here: Stage) -> None:
    toml = here.folder / "perstack.toml"
    price = "[models.scripted.price]\ninput = 10\noutput = 20\n"
    toml.write_text(toml.read_text(encoding="utf-8") + price, encoding="utf-8")
    here.plays(a=[{"text": "hi", "usage": {"inputTokens": 1000, "outputTokens": 500}}])
    assert here.runs("a", "q").code == 0
    total = document(here)["total"]
    assert total["usage"]["costUsd"] == total["knownCostUsd"] == 0.02
    assert total["unpricedTokens"] == 0
    assert "$0.0200" in here.logs().stdout
