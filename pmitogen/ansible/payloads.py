"""Recognising AnsiballZ: the text that Ansible pipes into a Python, taken apart into what it would do.

Ansible builds one script per task: a fixed wrapper around a zip archive (base64), the module's name and its parameters.
Only a script whose every part is understood is recognised; anything else (coverage, debugging hooks, a generation unknown
here) runs as the script that it is.

Two generations: ansible-core 2.16 to 2.18 assign constants inside the wrapper and start the module with ``runpy``; 2.19 and
later call ``_ansiballz_main`` with keyword arguments, one a line, and the archive itself holds the starting function.
"""

from __future__ import annotations

import ast
import hashlib
import re

_TAIL = b'\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_KNOWN = frozenset(
    (b"ansible_module", b"module_fqn", b"profile", b"date_time", b"rlimit_nofile", b"params", b"extensions", b"zip_data")
)
_HEAD = b"_ANSIBALLZ_WRAPPER = True"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_OLD_END = b"\nif __name__ == '__main__':\n    _ansiballz_main()"
_OLD_ZIP = b"\n    ZIPDATA = '"
_OLD_PARAMS = rb"^    ANSIBALLZ_PARAMS = (.*)$"
_OLD_START = (
    rb"^ +runpy\.run_module\(mod_name='([\w.]+)', init_globals=dict\(_module_fqn='([\w.]+)', _modlib_path=modlib_path\),$"
)
_OLD_EXTRAS = (b"existing_soft", b"coverage", b"ansible_coverage")


class Payload:
    """One recognised script. A plain class, because this file is imported anew for every task."""

    __slots__ = ("archive", "fqn", "generation", "nofile", "params", "profile")

    def __init__(self, generation: str, fqn: str, params: bytes, archive: bytes, profile: str = "", nofile: int = 0) -> None:
        self.generation = generation  # "runpy" or "loader": how the module starts
        self.fqn = fqn
        self.params = params  # JSON
        self.archive = archive  # base64 of the zip
        self.profile = profile
        self.nofile = nofile

    @property
    def archive_name(self) -> str:
        """The archive's name by content."""
        return hashlib.sha1(self.archive, usedforsecurity=False).hexdigest()


def recognise(script: bytes) -> Payload | None:
    """Take a script apart, or return None."""
    start = script.rfind(_TAIL)
    if start >= 0:
        return _recognise_call(script, start)
    if _HEAD in script[:400]:
        return _recognise_constants(script)
    return None


def _recognise_call(script: bytes, start: int) -> Payload | None:
    tail = script[start + len(_TAIL) :]
    if _HEAD not in script[:400] or b"_loader.run_module(" not in script[:start] or not tail.rstrip().endswith(b"\n)"):
        return None
    found: dict[bytes, bytes] = {}
    for line in tail.rstrip()[:-2].split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or value[-1:] != b"," or name in found:
            return None
        found[name] = value[:-1]
    if set(found) != _KNOWN or found[b"extensions"] != b"{}":
        return None
    archive = found[b"zip_data"]
    try:
        params, fqn, profile = (ast.literal_eval(found[name].decode()) for name in (b"params", b"module_fqn", b"profile"))
        nofile = int(found[b"rlimit_nofile"])
    except (ValueError, SyntaxError):
        return None
    if archive[:1] != b"'" or archive[-1:] != b"'" or not _is_base64(archive[1:-1]) or not isinstance(params, str):
        return None
    return Payload("loader", fqn, params.encode("utf-8", "surrogateescape"), archive[1:-1], profile, nofile)


def _recognise_constants(script: bytes) -> Payload | None:
    start = script.find(_OLD_ZIP)
    end = script.find(b"'\n", start + len(_OLD_ZIP))
    if start < 0 or end < 0 or not script.rstrip().endswith(_OLD_END):
        return None
    rest = script[:start] + script[end:]
    params, module = re.search(_OLD_PARAMS, rest, re.M), re.search(_OLD_START, rest, re.M)
    if not params or not module or module[1] != module[2] or any(extra in rest for extra in _OLD_EXTRAS):
        return None
    try:
        text = ast.literal_eval(params[1].decode())
    except (ValueError, SyntaxError):
        return None
    archive = script[start + len(_OLD_ZIP) : end]
    if not isinstance(text, str) or not _is_base64(archive):
        return None
    return Payload("runpy", module[1].decode(), text.encode("utf-8", "surrogateescape"), archive)


def _is_base64(data: bytes) -> bool:
    return not data.translate(None, _BASE64)
