"""Accounts that have processes below a program, from Linux's /proc.

A login shell reads its account's start-up files before pmitogen's code runs, on the terminal of the program that started it. So
before a prompt on that terminal is answered, this module checks that no process of another account runs there.

NOTE: runs on the target.
"""

from __future__ import absolute_import

MYPY = False
if MYPY:
    from typing import Set  # noqa: F401

MAX_PROCESSES = 500  # processes to examine


def uids_below(pid):
    # type: (int) -> Set[int]
    """Return the real and effective uids of a process and its descendants. Empty if the system does not show them."""
    uids = set()  # type: Set[int]
    left, examined = [pid], 0
    while left and examined < MAX_PROCESSES:
        pid = left.pop()
        examined += 1
        try:
            with open("/proc/%d/status" % pid, "rb") as stream:
                lines = [line for line in stream if line.startswith(b"Uid:")]
            with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as stream:  # those started by its main thread
                left += [int(child) for child in stream.read().split()]
        except (IOError, OSError, ValueError):  # it has ended, or the system does not show it
            continue
        uids.update(int(uid) for uid in lines[0].split()[1:4])
    return uids


def uids_of(user):
    # type: (bytes) -> Set[int]
    """Return the uid of a local account, or of ``#1000`` as sudo has it, as a set.

    Empty for any other account: a query to a directory service may block.
    """
    if user[:1] == b"#" and user[1:].isdigit():
        return {int(user[1:])}
    try:
        with open("/etc/passwd", "rb") as stream:
            for line in stream:
                fields = line.split(b":")
                if fields[0] == user and len(fields) == 7:
                    return {int(fields[2])}
    except (IOError, OSError, ValueError):
        pass
    return set()
