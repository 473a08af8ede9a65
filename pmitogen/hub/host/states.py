"""States of a host, and the table of the events that are possible in each.

A pair of state and event that is not in ``TRANSITIONS`` is an internal error of the hub. It ends that host, as any failure of
work about it does (see scheduler.py).

::

    NEW -> CONNECTING -> BOOTING -> UP -> DEAD
            ^      |        |
            |      v        v
            +-- SHELL_ONLY -+             every state may end in DEAD
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class State(enum.Enum):
    """The state of a host's connection."""

    NEW = "new"  # no request so far
    CONNECTING = "connecting"  # a thread logs in, or opens a session; requests wait
    BOOTING = "booting"  # Python is starting; requests are sent behind the bundle that starts it
    UP = "up"  # the agent has sent its hello
    SHELL_ONLY = "shell only"  # logged in, without Python: the login shell and SFTP serve requests
    DEAD = "dead"  # the connection has ended; the registry makes another host for the next request


WITHOUT_AGENT = (State.SHELL_ONLY, State.CONNECTING, State.BOOTING)  # after the login, simple commands have sessions of their own


class Event(enum.Enum):
    """An event that may change the state of a host."""

    CONNECT = "connect"  # a request needs the connection
    LOGGED_IN = "logged in"  # and no request so far needs Python
    PYTHON_STARTING = "Python is starting"
    PYTHON_UP = "Python is up"
    NO_PYTHON = "no Python"
    PYTHON_WANTED = "Python is wanted"  # a request needs it, and it may have been installed meanwhile
    END = "end"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.NEW: {Event.CONNECT: State.CONNECTING, Event.END: State.DEAD},
    State.CONNECTING: {Event.LOGGED_IN: State.SHELL_ONLY, Event.PYTHON_STARTING: State.BOOTING, Event.END: State.DEAD},
    State.BOOTING: {Event.PYTHON_UP: State.UP, Event.NO_PYTHON: State.SHELL_ONLY, Event.END: State.DEAD},
    State.UP: {Event.END: State.DEAD},
    State.SHELL_ONLY: {Event.PYTHON_WANTED: State.CONNECTING, Event.END: State.DEAD},
    State.DEAD: {},
}


class IllegalTransition(Exception):
    """An event that is not possible in the state of the host."""


def next_state(state: State, event: Event) -> State:
    """Return the state after *event*. Raises IllegalTransition."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.value!r} in the state {state.value!r}") from None
