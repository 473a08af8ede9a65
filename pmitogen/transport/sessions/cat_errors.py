"""The error behind a message that is not understood, as far as a shell can tell it."""

from __future__ import annotations


def probe(path: str, *, writes: bool) -> str:
    """Return a script for ``sh`` that prints the name of the errno of opening *path*, which is quoted; nothing if unknown."""
    up = 'while test ! -e "$e"; do case $e in */) e=${e%/};; *) e=$(dirname "$e");; esac; done; '
    lost = 'if test ! -d "$e"; then echo ENOTDIR; elif test ! -x "$e"; then echo EACCES; '
    begin = f'p={path}; if test -d "$p"; then echo EISDIR; '
    if writes:
        above = 'else case $p in */) d=${p%/};; *) d=$(dirname "$p");; esac; e=$d; '
        return f'{begin}{above}{up}{lost}elif test "$e" != "$d"; then echo ENOENT; elif test ! -w "$e"; then echo EACCES; fi; fi'
    return f'{begin}elif test -e "$p"; then test -r "$p" || echo EACCES; else e=$p; {up}{lost}else echo ENOENT; fi; fi'


def probed_name(output: bytes) -> str:
    """Return the name that a :func:`probe` has printed; empty if it has printed none."""
    last = output.split()[-1:]
    return last[0].decode() if last and last[0] in (b"EISDIR", b"ENOTDIR", b"EACCES", b"ENOENT") else ""
