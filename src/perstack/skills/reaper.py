"""No orphans: a watcher process that ends the skills' processes when this process was killed."""

import contextlib
import subprocess

import anyio
from anyio.abc import Process

# Reads the process groups to guard from its stdin. When that ends, and it ends however this process
# ends, what is still guarded is told to stop and then killed. A shell is used as it starts in a
# millisecond, and a watcher because a death signal would reach the child only, not what it started.
WATCH = """
trap '' HUP INT TERM
groups=" "
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) case $groups in
         *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;;
       esac ;;
  esac
done
[ "$groups" = " " ] && exit 0
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class Reaper:
    """Guards process groups against outliving this process. Started before the first of them."""

    def __init__(self) -> None:
        self._watcher: Process | None = None
        self._is_broken = False
        self._lock = anyio.Lock()

    async def prepare(self) -> None:
        """Be ready before a group is started, which could not be guarded at once otherwise."""
        await self._tell("")

    async def guard(self, group: int) -> None:
        """End this process group if this process dies before `release`."""
        await self._tell(f"+ {group}\n")

    async def release(self, group: int) -> None:
        """The process group is gone."""
        if self._watcher is not None:
            await self._tell(f"- {group}\n")

    async def close(self) -> None:
        """End the watcher. Every guarded group has been released before."""
        watcher, self._watcher = self._watcher, None
        self._is_broken = True
        if watcher is None or watcher.stdin is None:
            return
        with anyio.CancelScope(shield=True):
            await watcher.stdin.aclose()
            await watcher.wait()
            await watcher.aclose()

    async def _tell(self, line: str) -> None:
        async with self._lock:
            if self._is_broken:
                return
            # A machine without a shell still runs skills; they only lose this safety net.
            try:
                self._watcher = self._watcher or await _start()
                if line and self._watcher.stdin is not None:
                    await self._watcher.stdin.send(line.encode())
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._is_broken = True
                await self._drop()

    async def _drop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with contextlib.suppress(ProcessLookupError):
                watcher.kill()
            await watcher.aclose()


async def _start() -> Process:
    return await anyio.open_process(
        ["/bin/sh", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        # In the foreground group it would be ended together with what it watches.
        start_new_session=True,
    )
