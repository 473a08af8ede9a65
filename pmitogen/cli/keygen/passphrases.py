"""Passphrases for keys: asked for on the terminal, or given by -P and -N."""

from __future__ import annotations

from pmitogen.cli.prompt import ask_on_standard_input, find_asker
from pmitogen.errors import UsageError
from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import key_file
from pmitogen.transport.keys.private_key import PrivateKey, UnusableKey


def new_passphrase(prompt: str) -> str:
    """Ask twice for a new passphrase; "" means none. Raises UsageError if the user gives up."""
    ask = find_asker(allow_stdin=True) or ask_on_standard_input
    while True:
        first = ask(prompt, False)
        second = None if first is None else ask("Enter same passphrase again: ", False)
        if first is None or second is None:
            raise UsageError("no passphrase given")
        if first == second:
            return first
        print("Passphrases do not match.  Try again.", flush=True)


def open_key(path: str, given: str | None, failure: str, prompt: str) -> PrivateKey:
    """Read the private key at *path*. *failure* begins the message of an error. Raises UsageError."""
    try:
        file = key_file.read(path)
        if given is not None:
            return file.open(Secret(given) if given else None)
        return _open_asking(file, prompt)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnusableKey as error:
        text = "incorrect passphrase supplied to decrypt private key" if error.passphrase else str(error)
        raise UsageError(f"{failure}: {text}") from None


def _open_asking(file: key_file.KeyFile, prompt: str) -> PrivateKey:
    try:
        return file.open(None)
    except UnusableKey as error:
        ask = find_asker(allow_stdin=True)
        if error.passphrase is None or ask is None:
            raise
        return file.open_with_prompt(lambda _: ask(prompt, False), 1)
