"""Which accounts have processes below a program, as Linux shows it.

A login shell reads its account's start-up files before anything of ours, on the terminal of the program that started it. So
before a question is answered there, it is seen whether such an account is at work already.

NOTE: runs on the target.
"""

from __future__ import absolute_import

MAX_PROCESSES = 500  # processes that are looked at


def uids_below(pid):
    """The user numbers, real and effective, of a process and its descendants. Empty where the system does not show them."""
    found, left, seen = set(), [pid], 0
    while left and seen < MAX_PROCESSES:
        pid = left.pop()
        seen += 1
        try:
            with open("/proc/%d/status" % pid, "rb") as stream:
                lines = [line for line in stream if line.startswith(b"Uid:")]
            with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as stream:  # those that its main thread has started
                left += [int(number) for number in stream.read().split()]
        except (IOError, OSError, ValueError):  # gone, or nothing is shown
            continue
        found.update(int(number) for number in lines[0].split()[1:4])
    return found


def uids_of(user):
    """The uid of a local account (bytes; sudo's ``#1000`` too) as a set; empty for any other, since a directory may block."""
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
