"""Handles the subscriptions of clients to changes, in both protocol eras."""

from functools import partial
from logging import getLogger
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    ResourcesListChanged,
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

from perstack.errors import PerstackError
from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.notifications.hub import (
    DELIVERY_TASKS_KEY,
    JOBS_URI,
    MAX_URIS,
    JobSnapshot,
    SendEvent,
    Subscriber,
)
from perstack.server.notifications.sdk_compat import connection_of, send_event
from perstack.server.resources.uris import MAX_URI_CHARACTERS, job_uri
from perstack.server.tools.definitions import expert_tools, published_experts

LOG = getLogger(__name__)
MAX_POLLED_JOBS = 100
"""Of the newest; changes by other processes to older jobs are not noticed."""

MAX_STREAMS = 128
"""Of one principal at the same time."""

SUBSCRIBER_STATE_KEY = "perstack.subscriber"


def add_subscriptions(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Handle subscriptions to definitions and jobs."""
    handlers = SubscriptionHandlers(server_context)
    server_context.notifications.add_list_projection(
        ToolsListChanged(),
        lambda definitions: expert_tools(
            published_experts(definitions, server_context.publish),
            definitions,
            server_context.default_wait_seconds,
            has_job_tools=server_context.has_job_tools,
        ),
    )
    server.add_request_handler(
        "subscriptions/listen", SubscriptionsListenRequestParams, handlers.listen
    )
    server.add_notification_handler(
        "notifications/initialized", NotificationParams, handlers.initialized
    )
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, handlers.subscribe)
    server.add_request_handler(
        "resources/unsubscribe", UnsubscribeRequestParams, handlers.unsubscribe
    )


class SubscriptionHandlers:
    """Handlers for the requests of both protocol eras."""

    def __init__(self, server_context: ServerContext) -> None:
        self._tenants = server_context.tenants
        self._hub = server_context.notifications

    async def listen(
        self, context: RequestContext, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Stream the requested notifications until the client or the server ends the stream."""
        caller = caller_of(context)
        request_id = context.request_id
        if request_id is None:
            raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id.")
        if self._hub.count_streams(caller.principal) >= MAX_STREAMS:
            raise MCPError(
                INVALID_REQUEST, f"{MAX_STREAMS} streams are open already. Close one of them first."
            )
        honored = _honored(params.notifications)
        subscriber = Subscriber(
            lambda event: event_matches(honored, frozenset(), event),
            can_see_jobs=caller.may_read_jobs,
            interval=self._hub.interval,
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
                subscriber.close()  # the client has disconnected

        with self._hub.subscription(caller.principal, subscriber):
            acknowledged = SubscriptionsAcknowledgedNotificationParams(
                notifications=honored, _meta=meta
            )
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(params=acknowledged),
                related_request_id=request_id,
            )
            await self._deliver_and_poll(caller, subscriber, send)
        return SubscriptionsListenResult(_meta=meta)

    async def initialized(self, context: RequestContext, _params: NotificationParams) -> None:
        """Notify a client of the handshake era of changes for as long as it is connected."""
        self._get_or_create_subscriber(context)

    async def subscribe(
        self, context: RequestContext, params: SubscribeRequestParams
    ) -> EmptyResult:
        _follow(self._get_or_create_subscriber(context), params.uri)
        return EmptyResult()

    async def unsubscribe(
        self, context: RequestContext, params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._get_or_create_subscriber(context).unfollow(params.uri)
        return EmptyResult()

    def _get_or_create_subscriber(self, context: RequestContext) -> Subscriber:
        """The subscriber of this connection, created when first needed and closed with it."""
        connection = connection_of(context)
        existing = connection.state.get(SUBSCRIBER_STATE_KEY)
        if isinstance(existing, Subscriber):
            return existing
        caller = caller_of(context)
        subscriber = Subscriber(
            lambda _event: True, can_see_jobs=caller.may_read_jobs, interval=self._hub.interval
        )
        connection.state[SUBSCRIBER_STATE_KEY] = subscriber
        # Before the task starts, so that no change is missed.
        self._hub.subscribe(caller.principal, subscriber)
        connection.exit_stack.callback(self._hub.unsubscribe, caller.principal, subscriber)
        connection.exit_stack.callback(subscriber.close)
        deliveries: TaskGroup = context.lifespan_context[DELIVERY_TASKS_KEY]
        deliveries.start_soon(self._deliver_in_background, caller, subscriber, connection)
        return subscriber

    async def _deliver_in_background(
        self, caller: Caller, subscriber: Subscriber, connection: Connection
    ) -> None:
        try:
            await self._deliver_and_poll(caller, subscriber, partial(send_event, connection))
        except Exception:  # the failure of one client must not end the server
            LOG.exception("A client is told of changes no longer")
        finally:
            self._hub.unsubscribe(caller.principal, subscriber)

    async def _deliver_and_poll(
        self, caller: Caller, subscriber: Subscriber, send: SendEvent
    ) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll_remote_jobs, caller, subscriber)
            await subscriber.deliver(send)
            tasks.cancel_scope.cancel()

    async def _poll_remote_jobs(self, caller: Caller, subscriber: Subscriber) -> None:
        """Notify a client of changes by other processes to its principal's jobs."""
        job_list = self._hub.job_list_cache(caller.principal)
        previous: JobSnapshot | None = None
        while True:
            await subscriber.follows_jobs.wait()
            current = await job_list.get(partial(self._fetch_newest_jobs, caller))
            if current is not None and previous is not None:
                for job_id, entry in current.items():
                    is_local = self._hub.is_local_job(caller.principal, job_id)
                    if not is_local and previous.get(job_id) != entry:
                        subscriber.notify_topic(job_uri("job", job_id).text)
                        subscriber.notify_topic(JOBS_URI)
                if not current.keys() <= previous.keys():
                    subscriber.notify(ResourcesListChanged())
            previous = previous if current is None else current
            await anyio.sleep(self._hub.poll_seconds)

    async def _fetch_newest_jobs(self, caller: Caller) -> JobSnapshot | None:
        try:
            services = await self._tenants.services_for(caller)
            jobs = await services.resources.newest_jobs(MAX_POLLED_JOBS)
        except PerstackError as error:
            LOG.debug("The jobs cannot be looked at: %s", error)
            return None
        return {job.job_id: job for job in jobs}


def _honored(requested: SubscriptionFilter) -> SubscriptionFilter:
    return SubscriptionFilter(
        tools_list_changed=requested.tools_list_changed or None,
        prompts_list_changed=requested.prompts_list_changed or None,
        resources_list_changed=requested.resources_list_changed or None,
        resource_subscriptions=list(requested.resource_subscriptions or ()) or None,
    )


def _follow(subscriber: Subscriber, uri: str) -> None:
    if subscriber.uri_count >= MAX_URIS:
        raise MCPError(
            INVALID_PARAMS, f"At most {MAX_URIS} resources can be followed. Leave one first."
        )
    if len(uri) > MAX_URI_CHARACTERS:
        raise MCPError(INVALID_PARAMS, f"No address has more than {MAX_URI_CHARACTERS} characters.")
    subscriber.follow(uri)
