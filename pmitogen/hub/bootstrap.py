"""Start Python on a target by one exec request, without waiting for any answer.

The command is one line that any login shell (sh, bash, csh, fish) hands to ``/bin/sh``: it tries the candidate interpreters in
order and runs the first that works with a small loader, which reads the bundle that was sent behind the command. So finding a
Python takes no round trip, and a broken candidate (for example a version manager's shim) only its own start.

If none works, the line prints a marker on stdout, and the hub serves requests without Python (without_python/shell_requests.py).
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
import json
import re
import secrets
import threading
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mitogen.minify import minimize_source

from pmitogen import toggles
from pmitogen.hub import artifact_cache
from pmitogen.target.start_state import SH_SAFE_PATH
from pmitogen.util.peer_text import LIMIT, escape_lines

if TYPE_CHECKING:
    from pmitogen.hub.mitogen_stream import MitogenChannelStream

CANDIDATES = (
    "python3.14",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.9",
    "/usr/bin/python3",
    "python3",
    "python3.8",
    "python3.7",
    "python3.6",
    "/usr/libexec/platform-python",
    "python2.7",
    "/usr/bin/python",
    "python",
)  # ansible-core's own order (INTERPRETER_PYTHON_FALLBACK), then what older ones tried
# In an order in which similar files are near to each other: the compressed bundle is two percent smaller than in another.
TARGET_FILES = (
    "jobs",
    "agent.event_loop",
    "agent.hub_connection",
    "agent.main",
    "agent.runner_proxy",
    "agent.chains",
    "agent.account_start",
    "dispatch",
    "runner",
    "payload.launcher",
    "boot",
    "fds",
    "fork",
    "start_state",
    "files",
    "payload.run",
    "payload.fast_subprocess",
    "payload.archive",
    "payload.module_cache",
    "login_state",
    "vfork",
    "freshness",
    "payload.importer",
    "rules",
    "sources",
)
BECOME_FILES = (
    "escalation",
    "chain",
    "doas_messages",
    "entry",
    "failures",
    "interpreter",
    "processes",
    "prompt_patterns",
    "quoting",
    "secret_requests",
    "strings",
    "su_messages",
    "sudo_messages",
    "terminal",
    "transcript",
    "diagnosis",
)
_bundle_lock = threading.Lock()


def new_token() -> str:
    """Return a random token that no other output contains by chance."""
    return secrets.token_hex(8)


def ready_marker(token: str) -> bytes:
    """Return the line that the loader prints first."""
    return f"PMITOGEN-{token} ready".encode()


def no_python_marker(token: str) -> bytes:
    """Return the line for "no candidate found"; ".broken" is added if one was started and failed."""
    return f"PMITOGEN-{token} nopython".encode()


def shell_marker(token: str) -> bytes:
    """Return the line for "/bin/sh has read the command"."""
    return f"PMITOGEN-{token} sh".encode()


def too_old(stderr_tail: bytes) -> str:
    """Return the loader's message about interpreters that are too old; empty if there is none."""
    return "; ".join(line for line in escape_lines(stderr_tail) if "older than 2.7" in line)


def last_output(stream: MitogenChannelStream) -> str:
    """Return the end of the output of a failed start, for a message."""
    lines = [line for line in escape_lines((stream.stderr_tail or stream.preamble)[-LIMIT:]) if not line.startswith("PMITOGEN-")]
    return f": {' / '.join(lines)}" if lines else ""


def bootstrap_command(token: str, bundle_size: int, context_id: int, candidates: Sequence[str] = CANDIDATES) -> str:
    """Return the command line of the exec request."""
    candidates = [name for name in candidates if re.fullmatch(r"[\w./+@%:=,-]+", name)]
    script = (
        f"echo PMITOGEN-{token} sh; {SH_SAFE_PATH}b=; for p in {' '.join(candidates)}; do "
        'q=`command -v "$p" 2>/dev/null` && '
        f'"$q" -c "$0" {token} {bundle_size} "$q" {context_id} && exit 0; r=$?; '
        "case $q,$r in ,*|*,126|*,127) ;; *,[1-9]) b=.broken;; *) exit $r;; esac; done; "
        f"echo PMITOGEN-{token} nopython$b; exit 127"
    )
    return f"exec /bin/sh -c {_quote(script)} {_quote(stage0())}"


def _quote(text: str) -> str:
    """Return *text* in single quotes, which sh, csh and fish read alike if it has no quote, backslash or exclamation mark."""
    if set(text) & set("'\\!"):
        raise ValueError("the bootstrap line must not hold quotes, backslashes or exclamation marks")
    return f"'{text}'"


@functools.cache
def stage0() -> str:
    """Return the loader's source for a command line: one line, because csh allows no newline inside quotes.

    Its first statement removes the current directory from the path, which the interpreter has put there for ``-c``: a file of
    that directory could otherwise replace a module that is imported later.
    """
    encoded = base64.b64encode(zlib.compress(minimise(module_source("pmitogen.target", "stage0")).encode(), 9)).decode()
    safe = 'import sys;sys.path=[p for p in sys.path if p not in("",".")]'
    return f'{safe};import zlib,base64;exec(zlib.decompress(base64.b64decode("{encoded}")))'


def module_source(package: str, name: str) -> str:
    """Return the source of a module of pmitogen."""
    return importlib.resources.files(package).joinpath(f"{name}.py").read_text("utf-8")


def minimise(text: str) -> str:
    """Return the source without comments, docstrings and imports for the type checker. Line numbers stay the same."""
    text = re.sub(r"^MYPY = False\nif MYPY:\n(?:\n* .*\n)+", lambda block: "\n" * block[0].count("\n"), text, flags=re.M)
    short: str = minimize_source(text)
    return short


@functools.cache
def target_files() -> dict[str, str]:
    """Return {path: source} of the files that run on every target."""
    return dict(_bundled(f"pmitogen.{name}") for name in ("protocol.framing", *(f"target.{name}" for name in TARGET_FILES)))


def _bundled(module: str) -> tuple[str, str]:
    """Return (path in the bundle, minimised source) of a module of pmitogen."""
    package, _, name = module.rpartition(".")
    return module.replace(".", "/") + ".py", minimise(module_source(package, name))


@functools.cache
def become_sources() -> bytes:
    """Return the body of a ``sources`` frame: the files that the agent needs before it enters its first account."""

    def make() -> bytes:
        sources = {"pmitogen/become/__init__.py": ""}
        sources.update(
            map(_bundled, ("pmitogen.target.agent.escalated_start", *(f"pmitogen.become.{name}" for name in BECOME_FILES)))
        )
        return zlib.compress(json.dumps(sources, separators=(",", ":")).encode("ascii"), 9)

    return artifact_cache.cached("become", (), make)


def bundle() -> bytes:
    """Return the bundle that the loader reads. It is the same for every host, so it is built once. Any thread."""
    with _bundle_lock:  # many logins may want it at the same moment
        return _build_bundle()


@functools.cache
def _build_bundle() -> bytes:
    preload = toggles.target_preload_enabled()

    def make() -> bytes:
        parts = {"role": "agent", "preload": preload, "files": target_files(), "stage0": stage0()}
        return zlib.compress(json.dumps(parts, separators=(",", ":")).encode("ascii"), 9)

    return artifact_cache.cached("bundle", (preload,), make)
