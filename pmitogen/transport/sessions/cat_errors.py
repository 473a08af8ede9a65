"""The error behind a message that is not understood, as far as a shell can tell it."""

from __future__ import annotations

from pmitogen.transport.sessions import shell_script


def probe(path: str, *, writes: bool) -> str:
    """Return a command that prints the name of the errno of opening *path*; nothing if it is unknown."""
    up = 'until test -e "$e"; do case $e in */) e=${e%/};; *) e=$(dirname "$e");; esac; done; '
    lost = 'if test -d "$e"; then test -x "$e" || { echo EACCES; exit; }; else echo ENOTDIR; exit; fi; '
    begin = 'if test -d "$p"; then echo EISDIR; exit; fi; '
    if writes:
        above = 'case $p in */) d=${p%/};; *) d=$(dirname "$p");; esac; e=$d; '
        end = 'if test "$e" = "$d"; then test -w "$e" || echo EACCES; else echo ENOENT; fi'
        return shell_script.line(f"{begin}{above}{up}{lost}{end}", p=path)
    found = 'if test -e "$p"; then test -r "$p" || echo EACCES; exit; fi; '
    return shell_script.line(f"{begin}{found}e=$p; {up}{lost}echo ENOENT", p=path)


def probed_name(output: bytes) -> str:
    """Return the name that a :func:`probe` has printed; empty if it has printed none."""
    last = output.split()[-1:]
    return last[0].decode() if last and last[0] in (b"EISDIR", b"ENOTDIR", b"EACCES", b"ENOENT") else ""
