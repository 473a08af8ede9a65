"""Questions that ssh-keygen asks on standard output and input, so that scripts can answer them."""

from __future__ import annotations

import os
import sys

KINDS = ("ed25519", "ecdsa", "rsa")


def ask_path() -> str:
    """Ask for the file of an existing key."""
    paths = [os.path.expanduser(f"~/.ssh/id_{name}") for name in KINDS]
    default = next((path for path in paths if os.path.exists(path)), paths[0])
    return ask_line(f"Enter file in which the key is ({default}): ") or default


def ask_line(prompt: str) -> str:
    """Ask for one line. Ends the program with status 1 at the end of the input."""
    print(prompt, end="", flush=True)
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(1)
    return line.rstrip("\n")
