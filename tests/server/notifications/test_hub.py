"""What a client is told, how often, and of what not."""

import anyio
import pytest
from mcp.shared.subscriptions import (
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from perstack.definition.model import Definitions
from perstack.server.notifications.hub import NotificationHub, Subscriber, topic_of

pytestmark = pytest.mark.anyio


async def sent_by(subscriber: Subscriber) -> list[ServerEvent]:
    """What a subscriber that is closed still sends."""
    sent: list[ServerEvent] = []

    async def note(event: ServerEvent) -> None:
        sent.append(event)

    subscriber.close()
    with anyio.fail_after(30):
        await subscriber.deliver(note)
    return sent


@pytest.mark.parametrize(
    ("uri", "topic"),
    [
        ("perstack://definitions", "perstack://definitions"),
        ("perstack://experts/a", "perstack://experts"),
        ("perstack://jobs", "perstack://jobs"),
        ("perstack://jobs?after=3", "perstack://jobs"),
        ("perstack://jobs/j1", "perstack://jobs/j1"),
        ("perstack://jobs/j1?x=1", "perstack://jobs/j1"),
        ("perstack://jobs/j1/events?after=3&limit=2", "perstack://jobs/j1"),
        ("perstack://jobs/j1/checkpoints/c1", "perstack://jobs/j1"),
        ("test://other", "test://other"),
    ],
)
async def test_all_resources_of_a_job_change_with_it(uri: str, topic: str) -> None:
    assert topic_of(uri) == topic


async def test_what_happens_many_times_is_told_once_at_a_time() -> None:
    subscriber = Subscriber(lambda _event: True, interval=3600)
    subscriber.follow("perstack://jobs/j1")
    sent: list[ServerEvent] = []
    first = anyio.Event()

    async def note(event: ServerEvent) -> None:
        sent.append(event)
        if not first.is_set():
            first.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscriber.deliver, note)
            subscriber.notify_topic("perstack://jobs/j1")
            await first.wait()
            for _ in range(100):
                subscriber.notify_topic("perstack://jobs/j1")
            await anyio.wait_all_tasks_blocked()
            assert len(sent) == 1
            subscriber.notify(ToolsListChanged())
            await anyio.wait_all_tasks_blocked()
            assert sent[1:] == [ToolsListChanged()]
            subscriber.close()
    assert sent[2:] == [ResourceUpdated("perstack://jobs/j1")]


async def test_a_change_during_the_quiet_time_is_told_after_it() -> None:
    subscriber = Subscriber(lambda _event: True, interval=0.01)
    sent: list[ServerEvent] = []
    second = anyio.Event()

    async def note(event: ServerEvent) -> None:
        sent.append(event)
        if len(sent) == 1:
            subscriber.notify(ToolsListChanged())
        else:
            second.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscriber.deliver, note)
            subscriber.notify(ToolsListChanged())
            await second.wait()
            subscriber.close()
    assert sent == [ToolsListChanged(), ToolsListChanged()]


async def test_a_resource_that_is_not_followed_any_more_is_not_told_of() -> None:
    subscriber = Subscriber(lambda _event: True)
    for uri in ("perstack://jobs/j1", "perstack://jobs/j1/result"):
        subscriber.follow(uri)
    subscriber.notify_topic("perstack://jobs/j1")
    subscriber.unfollow("perstack://jobs/j1")
    subscriber.unfollow("perstack://jobs/never")
    assert await sent_by(subscriber) == [ResourceUpdated("perstack://jobs/j1/result")]
    subscriber.unfollow("perstack://jobs/j1/result")
    assert subscriber.uri_count == 0
    assert not subscriber.follows_jobs.is_set()


async def test_nor_is_one_that_is_left_while_another_is_sent() -> None:
    subscriber = Subscriber(lambda _event: True)
    sent: list[ServerEvent] = []

    async def send(event: ServerEvent) -> None:
        sent.append(event)
        subscriber.unfollow("perstack://jobs/j1/result")

    for uri in ("perstack://jobs/j1", "perstack://jobs/j1/result"):
        subscriber.follow(uri)
    subscriber.notify_topic("perstack://jobs/j1")
    subscriber.close()
    with anyio.fail_after(30):
        await subscriber.deliver(send)
    assert sent == [ResourceUpdated("perstack://jobs/j1")]


async def test_a_job_is_told_to_its_principal_alone() -> None:
    changes = NotificationHub()
    alice, bob = Subscriber(lambda _event: True), Subscriber(lambda _event: True)
    for subscriber in (alice, bob):
        subscriber.follow("perstack://jobs/j1")
        subscriber.follow("perstack://jobs")
    with changes.subscription("alice", alice), changes.subscription("bob", bob):
        changes.job_changed("alice", "j1", "began")
        changes.job_changed("alice", "j2", "moved")
    assert await sent_by(bob) == []
    assert await sent_by(alice) == [
        ResourceUpdated("perstack://jobs/j1"),
        ResourceUpdated("perstack://jobs"),
        ResourcesListChanged(),
    ]


async def test_who_may_not_see_jobs_is_not_told_of_any() -> None:
    changes = NotificationHub()
    subscriber = Subscriber(lambda _event: True, can_see_jobs=False)
    subscriber.follow("perstack://jobs/j1")
    subscriber.follow("perstack://jobs")
    subscriber.follow("perstack://definitions")
    with changes.subscription("alice", subscriber):
        changes.job_changed("alice", "j1", "began")
        changes.definitions_changed(Definitions(), Definitions())
    assert await sent_by(subscriber) == [ResourceUpdated("perstack://definitions")]


async def test_an_edit_is_told_only_to_lists_that_it_changes() -> None:
    changes = NotificationHub()
    changes.add_list_projection(ToolsListChanged(), lambda definitions: definitions.model)
    changes.add_list_projection(ResourcesListChanged(), lambda definitions: definitions.max_steps)
    subscriber = Subscriber(lambda _event: True)
    with changes.subscription("local", subscriber):
        changes.definitions_changed(Definitions(model="a"), Definitions(model="b"))
    assert await sent_by(subscriber) == [ToolsListChanged()]


async def test_closing_waits_until_everyone_was_told() -> None:
    changes = NotificationHub()
    subscriber = Subscriber(lambda _event: True, interval=3600)
    sent: list[ServerEvent] = []

    async def note(event: ServerEvent) -> None:
        sent.append(event)

    async def listen() -> None:
        with changes.subscription("local", subscriber):
            await subscriber.deliver(note)

    changes.add_list_projection(ToolsListChanged(), lambda definitions: definitions.model)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            changes.definitions_changed(Definitions(model="a"), Definitions(model="b"))
            changes.definitions_changed(Definitions(model="b"), Definitions(model="c"))
            await changes.close()
            assert changes.count_subscribers("local") == 0
    assert sent == [ToolsListChanged()]


async def test_closing_gives_up_on_a_client_that_does_not_read() -> None:
    changes = NotificationHub()
    changes.subscribe("local", Subscriber(lambda _event: True))
    with anyio.fail_after(30):
        await changes.close(0.01)
    assert changes.count_subscribers("local") == 1
