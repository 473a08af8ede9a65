"""pmitogen as a Python library: hosts to run commands, call functions and move files on.

::

    with pmitogen.connect("admin@web1") as host:
        print(host.run("uname -r").stdout)
        root = host.become("root", password=...)
        root.put(b"hello\\n", "/etc/motd")

A :class:`Hub` owns connections and the one I/O thread behind them; :func:`connect` makes a private one. Every method of
:class:`Host` may be called from any thread, many at once; each call blocks its own thread only. :mod:`pmitogen.aio` has the same
names for asyncio. Errors are those of :mod:`pmitogen.errors`.
"""

from pmitogen.api.commands import Terminal
from pmitogen.api.connecting import ConnectArguments, JumpCredentials
from pmitogen.api.forwarding import Forwarding
from pmitogen.api.host import Host
from pmitogen.api.hub import Hub, connect
from pmitogen.api.many import Outcome
from pmitogen.api.options import ConnectOptions, Jump
from pmitogen.api.process import Process
from pmitogen.api.remote_files import DirEntry
from pmitogen.api.results import Completed
from pmitogen.api.trees import Changes
from pmitogen.transport.auth.credentials import Prompt as Ask

__all__ = [
    "Ask",
    "Changes",
    "Completed",
    "ConnectArguments",
    "ConnectOptions",
    "DirEntry",
    "Forwarding",
    "Host",
    "Hub",
    "Jump",
    "JumpCredentials",
    "Outcome",
    "Process",
    "Terminal",
    "connect",
]
