"""From the options of Ansible's sudo, su and doas become plugins to the words of :func:`pmitogen.flags.become.plan`.

The plugins name the same things alike: ``become_user``, ``become_exe``, ``become_flags`` and ``become_pass``. sudo has a folder
to go to besides, su and doas have words for "Password". An option that a plugin or its release does not have is unset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class BecomeWords(TypedDict):
    """Keyword arguments of ``plan``, but for the method and the time allowed."""

    exe: str | None
    flags: str | None
    user: str | None
    password: str | None
    chdir: str | None
    prompt_l10n: tuple[str, ...]


def become_words(options: Mapping[str, object]) -> BecomeWords:
    """The words for ``plan`` in a become plugin's resolved options, by name. An empty value is an unset one."""
    return {
        "exe": _text(options.get("become_exe")),
        "flags": _text(options.get("become_flags")),
        "user": _text(options.get("become_user")),
        "password": _text(options.get("become_pass")),
        "chdir": _text(options.get("sudo_chdir")),
        "prompt_l10n": _texts(options.get("prompt_l10n")),
    }


def _text(value: object) -> str | None:
    """Plain text: Ansible's values may be of subclasses of ``str``, and numbers where a password consists of digits."""
    return None if value is None or value == "" else str(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (str(value),)
    return tuple(str(item) for item in value) if isinstance(value, Sequence) else ()
