"""Filter expressions of `perstack log`: what passes, and what is refused."""

from argparse import ArgumentTypeError

import pytest

from perstack.cli.event_filter import parse_filter_expression

EVENT = {
    "type": "callTools",
    "stepNumber": 3,
    "accepted": True,
    "reason": "two words",
    "ratio": 0.5,
    "usage": {"outputTokens": 20},
    "tags": ["red", "blue"],
    "toolCalls": [
        {"toolName": "exec", "skillName": "@perstack/base", "args": {"path": "a"}},
        {"toolName": "think", "args": {"deep": [[7, 8]]}},
    ],
}


@pytest.mark.parametrize(
    "text",
    [
        '.type == "callTools"',
        ".type == 'callTools'",
        ".type == callTools",
        ".type==callTools",
        ".type != retry",
        ".stepNumber == 3",
        ".stepNumber == 3.0",
        ".stepNumber >= 3",
        ".stepNumber > -1",
        ".stepNumber < 1e2",
        ".ratio <= 0.5",
        ".accepted == true",
        ".accepted != false",
        '.reason == "two words"',
        ".type < d",
        ".usage.outputTokens > 10",
        ".tags == blue",
        ".tags[] == blue",
        ".tags != blue",
        ".toolCalls[].toolName == think",
        ".toolCalls.toolName == think",
        ".toolCalls[].skillName == @perstack/base",
        ".toolCalls[].args.deep[] == 8",
        '.stepNumber != "3"',
    ],
)
def test_it_holds(text: str) -> None:
    assert parse_filter_expression(text)(EVENT)


@pytest.mark.parametrize(
    "text",
    [
        ".type == retry",
        '.stepNumber == "3"',
        ".stepNumber > three",
        ".accepted == 1",
        ".accepted > 0",
        ".accepted != true",
        ".type > 1",
        ".nowhere == 1",
        ".nowhere != 1",
        ".usage.nowhere.deeper != 1",
        ".type.deeper != 1",
        ".usage > 1",
        ".toolCalls[].toolName == todo",
        ".toolCalls[].args.deep == 9",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not parse_filter_expression(text)(EVENT)


@pytest.mark.parametrize(
    "text",
    ["", "type == x", ".type", ".type = x", ".type ~ x", "== x", ". == x", '.a == "b', ".a == b c"],
)
def test_an_unreadable_expression_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Invalid filter expression"):
        parse_filter_expression(text)


@pytest.mark.parametrize("text", [".type ==", ".type ==  ", ".stepNumber >"])
def test_a_missing_value_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Missing value in filter expression"):
        parse_filter_expression(text)
