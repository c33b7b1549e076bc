"""How far a task has come: from the stretch of its job that it began with to where it rests now."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from perstack.core import events as ev
from perstack.core.stretches import Stop, Stretch
from perstack.jobs import SHUT_DOWN

Course = Literal["open", "waiting", "finished", "superseded"]


@dataclass(frozen=True, slots=True)
class Rest:
    """Where a task rests.

    Attributes:
        stretch: The stretch of the job that has it now, or had it last.
        course: Whether it is `open`, so that someone works on it or can take it up; `waiting` for
            an answer of the user; `finished`; or `superseded` by another request.
    """

    stretch: Stretch
    course: Course


def rest_of(found: list[Stretch], number: int, *, has_forms: bool) -> Rest | None:
    """Where the task rests that began with stretch `number`; `None` if there is no such stretch.

    A question ends the task of a client that can show no form: it gets the question as the result.
    """
    pairs = zip_longest(found[number:], found[number + 1 :])
    for stretch, following in pairs:
        if _is_final(stretch.stop, has_forms=has_forms):
            return Rest(stretch, "finished")
        if following is None:
            is_waiting = isinstance(stretch.stop, ev.StopRunByInteractiveTool)
            return Rest(stretch, "waiting" if is_waiting else "open")
        if following.run_id != stretch.run_id:
            return Rest(stretch, "superseded")
    return None


def _is_final(stop: Stop | None, *, has_forms: bool) -> bool:
    match stop:
        case None:
            return False
        case ev.StopRunByInteractiveTool():
            return not has_forms
        case ev.StopRunByCancellation():
            return stop.reason != SHUT_DOWN  # who shut a server down did not mean the task
        case _:
            return True
