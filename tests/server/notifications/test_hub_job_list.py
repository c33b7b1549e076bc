"""A look at jobs, shared by all clients who follow them."""

import math
import weakref

import anyio
import pytest

from perstack.server.notifications.hub import JobListCache, JobSnapshot, NotificationHub

pytestmark = pytest.mark.anyio


class Jobs:
    """Counts how often they are looked at."""

    def __init__(self) -> None:
        self.looks = 0

    async def find(self) -> JobSnapshot | None:
        self.looks += 1
        await anyio.lowlevel.checkpoint()
        return {}


@pytest.mark.parametrize(("fresh_seconds", "looks"), [(math.inf, 1), (0.0, 3)])
async def test_what_is_new_is_not_looked_up_again(fresh_seconds: float, looks: int) -> None:
    jobs, look = Jobs(), JobListCache(fresh_seconds)
    async with anyio.create_task_group() as clients:
        for _ in range(3):
            clients.start_soon(look.get, jobs.find)
    assert jobs.looks == looks


def test_each_principal_has_one_look_for_as_long_as_somebody_has_it() -> None:
    changes = NotificationHub()
    alice, bob = changes.job_list_cache("alice"), changes.job_list_cache("bob")
    assert changes.job_list_cache("alice") is alice is not bob
    left = weakref.ref(alice)
    del alice
    assert left() is None
    assert changes.job_list_cache("bob") is bob
