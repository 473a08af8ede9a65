"""One hub with an honest host and hostile servers, as a process of its own: measures the cost of each server.

Standard input: a JSON object with the honest host's ssh_args and user, the server's ports, and the names to try. Prints a line of
JSON for each: the end of the hostile host, its duration in seconds, the largest growth of the process (KiB), and the duration
of the honest host's slowest command.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import pmitogen
from pmitogen.errors import Error

LIMIT = 4.0  # seconds for one hostile host


def memory(name: str) -> int:
    """Return a value of /proc/self/status, in KiB."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(name)).split()[1])


class Attempt:
    """One connection to a hostile host, on a thread."""

    def __init__(self, hub: Any, port: int, user: str, ssh_args: list[str], work: str) -> None:
        self.ended = ""
        self.seconds = LIMIT
        self._arguments = hub, port, user, ssh_args, work
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        hub, port, user, ssh_args, work = self._arguments
        began = time.monotonic()
        host = None
        try:
            host = hub.connect(f"{user}@127.0.0.1", ssh_args=["-p", str(port), *ssh_args], password="secret", timeout=LIMIT)
            self.ended = "connected"
            if work == "python":
                host.ping()
            elif work == "get":
                host.get("/file")
            elif work == "run":
                host.run("true", timeout=LIMIT)
            elif work == "put":
                host.put(b"x", "/file")
        except (Error, TimeoutError) as error:
            self.ended = f"{type(error).__name__}: {error}"
        self.seconds = time.monotonic() - began
        if host is not None:
            host.close()


def main() -> None:
    wanted = json.load(sys.stdin)
    with pmitogen.Hub() as hub:
        honest = hub.connect(f"{wanted['user']}@127.0.0.1", ssh_args=wanted["ssh_args"], timeout=30)
        for _ in range(20):
            honest.run("true")
        for name, port, work in wanted["tries"]:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = memory("VmRSS")
            attempt = Attempt(hub, port, "guest", wanted["hostile_args"], work)
            slowest = 0.0
            while attempt.thread.is_alive() and attempt.thread.join(0.02) is None:
                began = time.monotonic()
                honest.run("true", timeout=30)
                slowest = max(slowest, time.monotonic() - began)
                if time.monotonic() - began > LIMIT + 5:
                    break
            honest.run("true", timeout=30)
            result = {"ended": attempt.ended, "seconds": attempt.seconds, "grown": memory("VmHWM") - before, "slowest": slowest}
            print(json.dumps({"name": name, **result}), flush=True)


if __name__ == "__main__":
    main()
