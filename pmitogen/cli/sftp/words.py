"""Split a line of commands into words, as sftp does. Source: makeargv() in sftp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

_SPECIAL = "*?[\\"


class QuoteError(ValueError):
    """A quote without an end."""


def split(line: str) -> list[str]:
    """Split *line* into words. A special character that was quoted has a backslash before it, as in patterns.

    Quotes and backslashes work as in a shell. Raises QuoteError.
    """
    words: list[str] = []
    word: str | None = None
    quote = ""
    characters = iter(line)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\":
                following = next(characters, "")
                word = (word or "") + _literal(following if following in ("\\", quote) else "\\" + following)
            else:
                word = (word or "") + _literal(character)
        elif character in "'\"":
            quote = character
            word = word or ""
        elif character == "\\":
            word = (word or "") + _literal(next(characters, ""))
        elif character.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
    if quote:
        raise QuoteError("Unterminated quoted argument")
    return words if word is None else [*words, word]


def _literal(text: str) -> str:
    return "".join("\\" + each if each in _SPECIAL else each for each in text)
