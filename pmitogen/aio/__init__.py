"""pmitogen for asyncio: the names of :mod:`pmitogen`, to be awaited.

::

    async with aio.connect("admin@web1") as host:
        print((await host.run("uname -r", text=True)).stdout)
        async with await host.start("journalctl -f", text=True) as process:
            async for line in process.stdout:
                print(line, end="")

Cancelling a task, and so a timeout or the end of a TaskGroup, ends its processes on the host. Nothing blocks the event loop,
and a call has no thread of its own. All objects are for the event loop in which they are used; one Hub may serve several.
"""

from pmitogen.aio.host import Host
from pmitogen.aio.hub import Hub, connect
from pmitogen.aio.process import InputStream, OutputStream, Process
from pmitogen.api.commands import Terminal
from pmitogen.api.results import Completed

__all__ = ["Completed", "Host", "Hub", "InputStream", "OutputStream", "Process", "Terminal", "connect"]
