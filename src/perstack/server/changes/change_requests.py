"""The requests of clients that want to be told of changes, in both eras."""

from functools import partial
from logging import getLogger
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    ServerEvent,
    ToolsListChanged,
    event_matches,
    event_to_notification,
)
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    EmptyResult,
    NotificationParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from perstack.server.caller import Caller, Context, caller_of
from perstack.server.calls.tools import expert_tools, published
from perstack.server.changes.changes import DELIVERIES
from perstack.server.changes.compat import Connection, connection_of, notify
from perstack.server.changes.elsewhere import tell_of_jobs_elsewhere
from perstack.server.changes.subscriber import MAX_URIS, Send, Subscriber
from perstack.server.face import Face
from perstack.server.reading.addresses import MAX_ADDRESS_CHARACTERS

LOG = getLogger(__name__)

MAX_STREAMS = 128
"""Of one principal at the same time."""

KEPT_AS = "perstack.subscriber"


def add_changes(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` tell clients of the changes of `face`."""
    face.changes.add_surface(
        ToolsListChanged(),
        lambda definitions: expert_tools(
            published(definitions, face.publish),
            definitions,
            face.default_wait_seconds,
            has_job_tools=face.has_job_tools,
        ),
    )
    server.add_request_handler(
        "subscriptions/listen", SubscriptionsListenRequestParams, partial(_listen, face)
    )
    server.add_notification_handler(
        "notifications/initialized", NotificationParams, partial(_greet, face)
    )
    server.add_request_handler(
        "resources/subscribe", SubscribeRequestParams, partial(_subscribe, face)
    )
    server.add_request_handler(
        "resources/unsubscribe", UnsubscribeRequestParams, partial(_unsubscribe, face)
    )


async def _listen(
    face: Face, context: Context, params: SubscriptionsListenRequestParams
) -> SubscriptionsListenResult:
    """Answer with a stream of what the client asked for, until it leaves or the server ends."""
    caller = caller_of(context)
    request_id = context.request_id
    if request_id is None:
        raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id.")
    _check_room(face, caller)
    honored = _honored(params.notifications)
    subscriber = Subscriber(
        lambda event: event_matches(honored, frozenset(), event),
        sees_jobs=caller.may_read_jobs,
        interval=face.changes.interval,
    )
    for uri in honored.resource_subscriptions or ():
        _follow(subscriber, uri)
    meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: request_id}

    async def send(event: ServerEvent) -> None:
        try:
            await context.session.send_notification(
                event_to_notification(event, meta), related_request_id=request_id
            )
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            subscriber.close()  # the client has left

    with face.changes.joined(caller.principal, subscriber):
        await context.session.send_notification(
            SubscriptionsAcknowledgedNotification(
                params=SubscriptionsAcknowledgedNotificationParams(
                    notifications=honored, _meta=meta
                )
            ),
            related_request_id=request_id,
        )
        await _deliver(face, caller, subscriber, send)
    return SubscriptionsListenResult(_meta=meta)


def _honored(wanted: SubscriptionFilter) -> SubscriptionFilter:
    return SubscriptionFilter(
        tools_list_changed=wanted.tools_list_changed or None,
        prompts_list_changed=wanted.prompts_list_changed or None,
        resources_list_changed=wanted.resources_list_changed or None,
        resource_subscriptions=list(wanted.resource_subscriptions or ()) or None,
    )


async def _greet(face: Face, context: Context, _params: NotificationParams) -> None:
    """Tell a client of the handshake era of changes for as long as it is connected."""
    _subscriber(face, context)


async def _subscribe(face: Face, context: Context, params: SubscribeRequestParams) -> EmptyResult:
    _follow(_subscriber(face, context), params.uri)
    return EmptyResult()


async def _unsubscribe(
    face: Face, context: Context, params: UnsubscribeRequestParams
) -> EmptyResult:
    _subscriber(face, context).unfollow(params.uri)
    return EmptyResult()


def _subscriber(face: Face, context: Context) -> Subscriber:
    """The one of this connection, which begins with its first need and ends with it."""
    connection = connection_of(context)
    known = connection.state.get(KEPT_AS)
    if isinstance(known, Subscriber):
        return known
    caller = caller_of(context)
    subscriber = Subscriber(
        lambda _event: True, sees_jobs=caller.may_read_jobs, interval=face.changes.interval
    )
    connection.state[KEPT_AS] = subscriber
    # From now on, and not from when the task begins, so that nothing is missed.
    face.changes.join(caller.principal, subscriber)
    connection.exit_stack.callback(face.changes.leave, caller.principal, subscriber)
    connection.exit_stack.callback(subscriber.close)
    deliveries: TaskGroup = context.lifespan_context[DELIVERIES]
    deliveries.start_soon(_tell, face, caller, subscriber, connection)
    return subscriber


async def _tell(face: Face, caller: Caller, subscriber: Subscriber, connection: Connection) -> None:
    try:
        await _deliver(face, caller, subscriber, partial(notify, connection))
    except Exception:  # one client's trouble must not end the server's life, and so the others
        LOG.exception("A client is told of changes no longer")
    finally:
        face.changes.leave(caller.principal, subscriber)


async def _deliver(face: Face, caller: Caller, subscriber: Subscriber, send: Send) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_of_jobs_elsewhere, face, caller, subscriber)
        await subscriber.deliver(send)
        tasks.cancel_scope.cancel()


def _check_room(face: Face, caller: Caller) -> None:
    if face.changes.count_guests(caller.principal) >= MAX_STREAMS:
        raise MCPError(
            INVALID_REQUEST, f"{MAX_STREAMS} streams are open already. Close one of them first."
        )


def _follow(subscriber: Subscriber, uri: str) -> None:
    if subscriber.uri_count >= MAX_URIS:
        raise MCPError(
            INVALID_PARAMS, f"At most {MAX_URIS} resources can be followed. Leave one first."
        )
    if len(uri) > MAX_ADDRESS_CHARACTERS:
        raise MCPError(
            INVALID_PARAMS, f"No address has more than {MAX_ADDRESS_CHARACTERS} characters."
        )
    subscriber.follow(uri)
