"""Convert the options of Ansible's sudo, su and doas become plugins to arguments of :func:`pmitogen.flags.become.plan.plan`.

``flags/become/`` parses the flags themselves.

The plugins use the same option names: ``become_user``, ``become_exe``, ``become_flags`` and ``become_pass``. sudo also has a
directory; su and doas have translations of "Password". An option that a plugin or its release lacks is unset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class BecomeOptions(TypedDict):
    """Keyword arguments of ``plan``, except the method and the timeout."""

    exe: str | None
    flags: str | None
    user: str | None
    password: str | None
    chdir: str | None
    prompt_l10n: tuple[str, ...]


def become_options(options: Mapping[str, object]) -> BecomeOptions:
    """Return the arguments of ``plan`` from a become plugin's resolved options. An empty value counts as unset."""
    return {
        "exe": _text(options.get("become_exe")),
        "flags": _text(options.get("become_flags")),
        "user": _text(options.get("become_user")),
        "password": _text(options.get("become_pass")),
        "chdir": _text(options.get("sudo_chdir")),
        "prompt_l10n": _texts(options.get("prompt_l10n")),
    }


def _text(value: object) -> str | None:
    """Return a ``str``: Ansible's values may be subclasses of ``str``, or numbers where a password consists of digits."""
    return None if value is None or value == "" else str(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (str(value),)
    return tuple(str(item) for item in value) if isinstance(value, Sequence) else ()
