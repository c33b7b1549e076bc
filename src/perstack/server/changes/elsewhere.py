"""Jobs that other processes drive on the same workspace: looked up while someone follows them."""

from functools import partial
from logging import getLogger

import anyio
from mcp.shared.subscriptions import ResourcesListChanged

from perstack.errors import PerstackError
from perstack.server.caller import Caller
from perstack.server.changes.look import Seen
from perstack.server.changes.subscriber import JOBS, Subscriber
from perstack.server.face import Face
from perstack.server.reading.addresses import of_job

LOG = getLogger(__name__)
LOOKED_AT = 100
"""Of the newest jobs; one that is older and goes on in another process is not noticed."""


async def tell_of_jobs_elsewhere(face: Face, caller: Caller, subscriber: Subscriber) -> None:
    """Tell a client of the jobs of its principal that are not driven here, until cancelled."""
    look = face.changes.look(caller.principal)
    known: Seen | None = None
    while True:
        await subscriber.follows_jobs.wait()
        found = await look.seen(partial(_newest, face, caller))
        if found is not None and known is not None:
            for job_id, entry in found.items():
                is_ours = face.changes.is_driven_here(caller.principal, job_id)
                if not is_ours and known.get(job_id) != entry:
                    subscriber.tell_of(of_job("job", job_id).uri)
                    subscriber.tell_of(JOBS)
            if not found.keys() <= known.keys():
                subscriber.tell(ResourcesListChanged())
        known = known if found is None else found
        await anyio.sleep(face.changes.look_seconds)


async def _newest(face: Face, caller: Caller) -> Seen | None:
    try:
        office = await face.offices.office(caller)
        return {entry.job_id: entry for entry in await office.archive.newest(LOOKED_AT)}
    except PerstackError as error:
        LOG.debug("The jobs cannot be looked at: %s", error)
        return None
