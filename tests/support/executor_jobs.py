"""Functions that tests call for each host in worker processes. They are imported there by name."""

from __future__ import annotations

import os
import signal
import threading

import pmitogen

Seen = tuple[int, str]


class Unpicklable(Exception):
    """An exception that cannot be reconstructed from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class FailsToUnpickle:
    """A value that cannot be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("not here")


def process_and_output(host: pmitogen.Host) -> Seen:
    """Return the worker's process id, and the output of a command on the host."""
    return os.getpid(), host.run("hostname", text=True).stdout


def fail_variously(host: pmitogen.Host) -> object:
    """Fail in a way that depends on the target's name."""
    target = str(host).split("@")[-1].split()[-1].rstrip(">")
    if target.startswith("unpicklable"):
        raise Unpicklable("a", "b")
    if target.startswith("value"):
        return threading.Lock()
    if target.startswith("unloadable"):
        return FailsToUnpickle()
    if target.startswith("status"):
        host.run("false", check=True)
    return process_and_output(host)


def kill_worker(host: pmitogen.Host) -> Seen:
    """Kill the worker's process if the host has a certain name."""
    if "killer" in str(host):
        os.kill(os.getpid(), signal.SIGKILL)
    return process_and_output(host)
