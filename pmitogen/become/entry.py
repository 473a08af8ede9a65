"""Command that enters an account: /bin/sh prints the entry marker, then starts the program.

The marker is printed before any code of the account runs: Python reads the account's ``usercustomize`` and ``.pth`` files before
it runs pmitogen's code. It is printed on the terminal, so that it comes before the output of that code, and on stdout, because
a shell's start-up files may have redirected stderr. After the marker no prompt is answered.

It has the same form as Ansible's marker, so that sudoers rules written for Ansible cover it::

    deploy ALL=(ALL) NOPASSWD: /bin/sh -c echo BECOME-SUCCESS-*

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become.quoting import posix_quote

MYPY = False
if MYPY:
    from typing import Dict, List, Optional  # noqa: F401

MAX_MARKER_SIZE = 64  # bytes; longer than any marker
SUDOERS_COMMAND = "/bin/sh -c echo BECOME-SUCCESS-*"  # as it is written in sudoers


class Entry(object):
    """The random marker of one account. Every process that can read the command line can see it."""

    def __init__(self):
        # type: () -> None
        letters = [chr(ord("a") + byte % 26) for byte in bytearray(os.urandom(32))]
        self.marker = "BECOME-SUCCESS-" + "".join(letters)  # as many letters as Ansible's
        # sudo may quote the command in an error message, but then the marker is not at the end of a line.
        self._line = re.compile(self.marker.encode("ascii") + b"[\r\n]")

    def command(self, argv, preparation=None):
        # type: (List[str], Optional[str]) -> List[str]
        """Return the arguments that print the marker and then start *argv*.

        *preparation*: shell commands to run before it, each followed by ``; ``. The shell then stays, because it shows the state
        in which programs of this account start (see target/login_state.py). None: *argv* replaces the shell.
        """
        quoted = " ".join(posix_quote(argument) for argument in argv)
        start = "exec " + quoted if preparation is None else preparation + quoted + "; exit $?"
        return ["/bin/sh", "-c", "echo %s >&2 ; echo %s ; %s" % (self.marker, self.marker, start)]

    def is_in(self, data):
        # type: (bytes) -> bool
        """Return True if *data* contains the printed marker."""
        return bool(self._line.search(data))


def exports(environment):
    # type: (Dict[str, str]) -> str
    """Return shell commands that set the variables in *environment*. Names that are not valid in a shell are left out."""
    return "".join(
        "export %s=%s; " % (name, posix_quote(value))
        for name, value in sorted(environment.items())
        if re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name)
    )
