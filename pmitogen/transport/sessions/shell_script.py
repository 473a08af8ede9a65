"""A script for ``/bin/sh`` as one line that every login shell understands: csh and fish have other quotes and redirections."""

from __future__ import annotations

_PLAIN = frozenset(range(32, 127)) - frozenset(b"'\\!%")  # what each shell takes as it is between single quotes
_FORBIDDEN = frozenset("'\\!\n")


def line(script: str, **paths: str) -> str:
    """Return the line. The script has each of *paths* in the variable of its name; it contains none of ``' \\ !`` itself."""
    assert not _FORBIDDEN & set(script), script
    # The dot keeps the newlines at the end, which the shell removes from the output of a command.
    begin = "".join(f'{name}=$(printf %b "${place}."); {name}=${{{name}%.}}; ' for place, name in enumerate(paths))
    return " ".join(["exec /bin/sh -c", f"'{begin}{script}'", *(f"'{_encoded(path)}'" for path in paths.values())])


def is_plain(path: str) -> bool:
    """Return whether every login shell takes *path* as it is between single quotes."""
    return set(_bytes(path)) <= _PLAIN


def _encoded(path: str) -> str:
    """Return *path* for the ``%b`` of printf. A leading dash would be an option of a program."""
    raw = _bytes(f"./{path}" if path.startswith("-") else path)
    return "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in raw)


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
