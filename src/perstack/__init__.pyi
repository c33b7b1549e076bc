from perstack.engine import open_engine as open_engine
from perstack.errors import PerstackError as PerstackError
from perstack.jobs import JobView as JobView
from perstack.library import run as run
from perstack.library import stream as stream
from perstack.runtime.start_plan import JobRequest as JobRequest
from perstack.settings import Settings as Settings

__version__: str
RUNTIME_VERSION: str
__all__ = [
    "JobRequest",
    "JobView",
    "PerstackError",
    "Settings",
    "__version__",
    "open_engine",
    "run",
    "stream",
]
