"""The command that an account is entered with: /bin/sh says that it is entered, then starts the program.

The marker is printed before any code of the account runs (a Python reads its ``usercustomize`` and ``.pth`` files before any
code of ours), on the terminal, so that it stands before whatever that code prints there; and on stdout, in case a shell's
start-up files have redirected stderr. It ends all answering of prompts.

It has the form of Ansible's own, so that rules in sudoers that were written for Ansible cover it::

    deploy ALL=(ALL) NOPASSWD: /bin/sh -c echo BECOME-SUCCESS-*

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become.quoting import posix_quote

MAX_MARKER_SIZE = 64  # bytes; longer than any marker
SUDOERS_COMMAND = "/bin/sh -c echo BECOME-SUCCESS-*"  # as it stands in sudoers


class Entry(object):
    """The marker of one account: random, and known to whoever can read the command line that holds it."""

    def __init__(self):
        letters = [chr(ord("a") + byte % 26) for byte in bytearray(os.urandom(32))]
        self.marker = "BECOME-SUCCESS-" + "".join(letters)  # Ansible's has 32 letters, too
        # The command itself, in an error message of sudo's, never has it at the end of a line.
        self._line = re.compile(self.marker.encode("ascii") + b"[\r\n]")

    def command(self, argv, preparation=None):
        """The arguments that start *argv* behind the marker.

        *preparation*: shell commands before it, each with ``; `` behind. With these the shell stays, for it shows in which state
        programs of this account start (see target/login_state.py). None: *argv* takes its place.
        """
        words = " ".join(posix_quote(word) for word in argv)
        start = "exec " + words if preparation is None else preparation + words + "; exit $?"
        return ["/bin/sh", "-c", "echo %s >&2 ; echo %s ; %s" % (self.marker, self.marker, start)]

    def is_in(self, data):
        """Whether the marker was printed in *data* (bytes)."""
        return bool(self._line.search(data))

    def remove_from(self, text):
        """*text* without the marker."""
        return text.replace(self.marker, "")


def exports(environment):
    """Shell commands that set variables: *environment* is {name: value}. A name that no shell takes is left out."""
    return "".join(
        "export %s=%s; " % (name, posix_quote(value))
        for name, value in sorted(environment.items())
        if re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name)
    )
