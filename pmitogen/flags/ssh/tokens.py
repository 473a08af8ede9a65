"""Expand ``%`` tokens, ``${VAR}`` and ``~``, with ssh's errors.

The caller passes the tokens that a keyword has; :func:`expand` refuses every other letter.
Source: misc.c and TOKENS in ssh_config(5) of OpenSSH 10.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.local_host import LocalHost


def connection_hash(local_host: str, host: str, port: str, user: str, jump: str) -> str:
    """Return ``%C``: 40 hex digits that identify one destination."""
    text = local_host + host + port + user + jump
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def expand(text: str, tokens: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Expand ``%x`` (if *tokens* is given) and ``${VAR}`` (if *environ* is). Raises ConfigValueError."""
    out: list[str] = []
    missing = ""
    i = 0
    while i < len(text):
        if environ is not None and text.startswith("${", i):
            name, i = _variable(text, i)
            if name not in environ:
                missing = missing or name
            out.append(environ.get(name, ""))
        elif tokens is not None and text[i] == "%":
            out.append(_token(text, i, tokens))
            i += 2
        else:
            out.append(text[i])
            i += 1
    if missing:
        raise ConfigValueError(f"the environment variable ${{{missing}}} has no value")
    return "".join(out)


def _variable(text: str, i: int) -> tuple[str, int]:
    end = text.find("}", i)
    if end < 0:
        raise ConfigValueError(f"environment variable {text[i:]!r} lacks its closing brace")
    if end == i + 2:
        raise ConfigValueError("environment variable without a name: ${}")
    return text[i + 2 : end], end + 1


def _token(text: str, i: int, tokens: Mapping[str, str]) -> str:
    letter = text[i + 1 : i + 2]
    if letter == "%":
        return "%"
    if not letter:
        raise ConfigValueError("% at the end of the value; use %% for a percent sign")
    if letter not in tokens:
        listed = " ".join("%" + name for name in sorted(tokens))
        raise ConfigValueError(f"unknown token %{letter}; the tokens here are: %% {listed}")
    return tokens[letter]


def expand_tilde(path: str, local: LocalHost) -> str:
    """Expand a leading ``~`` or ``~user``. Raises ConfigValueError for an unknown user."""
    if not path.startswith("~"):
        return path
    user, slash, rest = path[1:].partition("/")
    home = local.home if not user else local.home_of(user)
    if home is None:
        raise ConfigValueError(f"no such user: ~{user}")
    return home.rstrip("/") + "/" + rest.lstrip("/") if home else "/" + rest.lstrip("/")
