from perstack.errors import PerstackError as PerstackError
from perstack.jobs import JobView as JobView
from perstack.library import run as run
from perstack.library import stream as stream
from perstack.settings import Settings as Settings

__version__: str
__all__ = ["JobView", "PerstackError", "Settings", "__version__", "run", "stream"]
