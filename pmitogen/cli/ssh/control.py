"""Share a connection among several ``ssh`` commands: ``-O``, ControlMaster, ControlPath and ControlPersist.

Unlike ssh, a connection that pmitogen has made is shared only if this command would have made the same one: see
transport/connection_identity.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from pmitogen.cli.ssh import background, debug_log
from pmitogen.cli.ssh.forwards import OpenForwardings
from pmitogen.cli.ssh.invocation import Invocation, SessionKind
from pmitogen.cli.ssh.messages import CommandLineProblem
from pmitogen.cli.ssh.mux.client import FAILED, MasterUnreachable, MuxClient, Refused
from pmitogen.errors import UsageError
from pmitogen.flags.ssh.values.forwards import Forwardings
from pmitogen.hub.daemon import socket_paths
from pmitogen.transport.connection import Connection
from pmitogen.transport.mux import messages
from pmitogen.transport.mux.messages import MuxError
from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from pmitogen.cli.ssh.mux.master import Master

_T = TypeVar("_T")
_ORDERS = {
    "exit": (messages.TERMINATE, "Exit request sent."),
    "stop": (messages.STOP_LISTENING, "Stop listening request sent."),
}


def run_control(invocation: Invocation) -> int:
    """Carry out ``-O``: check, exit, stop, forward, cancel or proxy. Return the exit status. Raises UsageError.

    With ``proxy`` the session runs on the master's connection or not at all. As with other sessions the master gets the
    descriptors of its streams; ssh would send its packets through the socket instead.
    """
    path = invocation.settings.controlpath
    if path is None:
        raise CommandLineProblem('No ControlPath specified for "-O" command')
    command = invocation.control or ""
    if command not in ("check", "forward", "cancel", "proxy", *_ORDERS):
        raise UsageError(f"-O {command}: not supported; use check, exit, stop, forward, cancel or proxy")
    if invocation.stdio_forward is not None:
        raise CommandLineProblem("Cannot specify stdio forward with -O")
    if command == "proxy" and invocation.kind is SessionKind.NONE:
        raise UsageError("-O proxy: cannot be combined with -N; remove one of them")
    try:
        with MuxClient(path, messages.digest(invocation.settings)) as client:
            if command == "check":
                _print(f"Master running (pid={client.check()})")
            elif command == "proxy":
                return client.run(invocation)
            elif command in ("forward", "cancel"):
                return _change_forwardings(client, invocation.forwardings, command == "forward")
            else:
                kind, message = _ORDERS[command]
                client.send_control(kind)
                if invocation.settings.loglevel not in ("QUIET", "SILENT"):
                    _print(message)
    except MasterUnreachable as error:
        raise CommandLineProblem(f"Control socket connect({path}): {error}") from None
    except MuxError as error:
        raise UsageError(f"Control socket {path}: {error}") from None
    return 0


def _change_forwardings(client: MuxClient, wanted: Forwardings, opening: bool) -> int:
    """Open or close the forwardings at the master. As in ssh, a failed ``cancel`` does not change the exit status."""
    failed = False
    for kind, forwards in (
        (messages.LOCAL, wanted.local),
        (messages.DYNAMIC, wanted.dynamic),
        (messages.REMOTE, wanted.remote),
    ):
        for forward in forwards:
            try:
                port = client.change_forward(kind, forward, opening)
            except Refused as error:
                _print(f"mux_client_forward: forwarding request failed: {error.reason}")
                failed = True
                continue
            if port is not None:
                print(port, flush=True)
    if failed:
        _print(f"muxclient: master {'' if opening else 'cancel '}forward request failed")
    return FAILED if failed and opening else 0


def run_shared(invocation: Invocation) -> int | None:
    """Run the session on a master's connection; return the exit status. None: there is no master that may be used.

    A command with forwardings gets its own connection, because the master would keep the forwardings.
    """
    if invocation.forwardings or invocation.kind is SessionKind.NONE or invocation.master == "true":
        return None
    shared = _use_shared(invocation, lambda client: client.run(invocation))
    if shared is None:
        return None
    status, client = shared
    client.socket.close()
    return status


def open_shared(invocation: Invocation) -> tuple[socket.socket, MuxClient] | None:
    """Start the session on a master's connection; return its stream, and the client to close at its end. None: no master.

    Raises StartUnknown.
    """
    return _use_shared(invocation, lambda client: client.open_stream(invocation))


def _use_shared(invocation: Invocation, use: Callable[[MuxClient], _T]) -> tuple[_T, MuxClient] | None:
    """Call *use* with a client of a master that may be used; return its result and the client."""
    settings = invocation.settings
    path = settings.controlpath
    debug_log.enable(settings.loglevel, settings.logfile is not None)
    if path is None:
        return _use_hub(invocation, use)
    debug_log.debug(f"auto-mux: Trying existing master at '{path}'")
    shared = _use_master(invocation, path, use)
    return _use_hub(invocation, use) if shared is None and not os.path.lexists(path) else shared


def _use_master(invocation: Invocation, path: str, use: Callable[[MuxClient], _T]) -> tuple[_T, MuxClient] | None:
    try:
        return _use(path, messages.digest(invocation.settings), invocation.master != "false", use)
    except MasterUnreachable:
        return None
    except MuxError as error:
        _print(f"Control socket {path}: {error}; using a connection of its own")
        return None


def _use(path: str, digest: str, remove_stale: bool, use: Callable[[MuxClient], _T]) -> tuple[_T, MuxClient] | None:
    with contextlib.ExitStack() as until_used:
        client = until_used.enter_context(MuxClient(path, digest, remove_stale))
        debug_log.debug(f"mux_client_hello_exchange: done, other options: {client.has_other_options}", 2)
        if client.has_other_options:
            return None
        debug_log.debug("mux_client_request_session: entering", 3)
        result = use(client)
        until_used.pop_all()
        return result, client


def _use_hub(invocation: Invocation, use: Callable[[MuxClient], _T]) -> tuple[_T, MuxClient] | None:
    """As :func:`_use_shared`, with the connection of a hub, if the options request sharing, as ssh has it."""
    path = invocation.settings.controlpath
    wants_master = invocation.master != "false" or path is not None
    if invocation.in_background or not wants_master or (path is None and invocation.resolution.options.has("controlpath")):
        return None
    sockets = socket_paths.ssh_sockets()
    digest = messages.digest_for_hubs(invocation.settings) if sockets else ""
    for socket_path in sockets:
        with contextlib.suppress(MasterUnreachable, MuxError):  # no connection with these options
            shared = _use(socket_path, digest, True, use)
            if shared is not None:
                return shared
    return None


def run_persistent(invocation: Invocation, serve: Callable[[Invocation, Callable[[], None]], None]) -> int | None:
    """Start a master in the background that outlives this command (ControlPersist), and run the session on its connection.

    *serve*: called in the master; it calls its second argument once clients can connect, and returns when the master must end.
    Returns the exit status, or None if there is no master; the reason has then been printed.
    """
    as_master = background.fork()
    if as_master is not None:
        serve(invocation, lambda: as_master.detach(0, 1, 2))
        os._exit(0)
    if invocation.in_background:
        as_client = background.fork()
        if as_client is None:
            return 0
        as_client.detach(0)
    return run_shared(dataclasses.replace(invocation, forwardings=invocation.forwardings.cleared(), master="auto"))


def becomes_master(invocation: Invocation) -> bool:
    """Return whether this command is to share its connection with later ones."""
    path = invocation.settings.controlpath
    return path is not None and invocation.master in ("true", "auto") and not os.path.lexists(path)


@contextlib.contextmanager
def serving(connection: Connection, invocation: Invocation, forwardings: OpenForwardings) -> Iterator[Master | None]:
    """Share the connection during the body, and then until the last client ends. Yields None if it cannot be shared."""
    from pmitogen.cli.ssh.mux.master import Master

    path = invocation.settings.controlpath
    try:
        master = Master(connection, invocation.settings, path or "", forwardings)
    except OSError as error:
        _print(f"ControlSocket {path}: {error.strerror or error}, disabling multiplexing")
        yield None
        return
    try:
        yield master
    finally:
        master.stop_listening()
        master.wait_until_idle(None)


def _print(line: str) -> None:
    sys.stderr.write(one_line(line) + "\r\n")
    sys.stderr.flush()
