"""Split a line of commands into arguments, as sftp does. Source: makeargv() in sftp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

_SPECIAL = "*?[\\"


class QuoteError(ValueError):
    """A quote without an end."""


def split(line: str) -> list[str]:
    """Split *line* into arguments. A special character that was quoted has a backslash before it, as in patterns.

    Quotes and backslashes work as in a shell. Raises QuoteError.
    """
    arguments: list[str] = []
    arg: str | None = None
    quote = ""
    characters = iter(line)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\":
                following = next(characters, "")
                arg = (arg or "") + _literal(following if following in ("\\", quote) else "\\" + following)
            else:
                arg = (arg or "") + _literal(character)
        elif character in "'\"":
            quote = character
            arg = arg or ""
        elif character == "\\":
            arg = (arg or "") + _literal(next(characters, ""))
        elif character.isspace():
            if arg is not None:
                arguments.append(arg)
            arg = None
        else:
            arg = (arg or "") + character
    if quote:
        raise QuoteError("Unterminated quoted argument")
    return arguments if arg is None else [*arguments, arg]


def _literal(text: str) -> str:
    return "".join("\\" + each if each in _SPECIAL else each for each in text)
