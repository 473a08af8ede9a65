"""The state in which interpreters start: without the current directory on their path.

The current directory may be another account's: it passes through sudo, su and doas. Python puts it on ``sys.path``

- for ``-c``. Python 3.13 imports modules of its own (``linecache``) after that, before pmitogen's first statement; PYTHONSAFEPATH
  (Python 3.11) prevents it. Older ones import nothing before that statement, which removes it.
- for each empty or relative entry of PYTHONPATH. These apply to the interpreter's first imports (``encodings``, ``site``).

So code that starts an interpreter changes these variables for it. stage0 restores their values, for the programs that modules
start.
"""

import os

from pmitogen.protocol.framing import PY2

MYPY = False
if MYPY:
    from typing import Dict  # noqa: F401

SAVED_PYTHONPATH = "PMITOGEN_PYTHONPATH"  # PYTHONPATH as it was
SAFE_PATH_VALUE = "pmitogen"  # value of PYTHONSAFEPATH that was set here
shell_pid = 0  # of the sh that started the login account's interpreter, in that and its children; see login_state.py

# The environment of this process, as bytes.
if PY2:
    environb = os.environ
else:
    environb = os.environb

# The same in sh, in one line without quotes, backslashes or exclamation marks (see bootstrap.py).
# A value that another account may have put in SAVED is dropped first.
SH_SAFE_PATH = (
    "unset PMITOGEN_PYTHONPATH; export PYTHONSAFEPATH=${PYTHONSAFEPATH:-pmitogen}; "
    'o=$PYTHONPATH; if [ -n "$o" ]; then IFS=:; set -f; PYTHONPATH=; '
    "for d in $o; do case $d in /*) PYTHONPATH=$PYTHONPATH${PYTHONPATH:+:}$d;; esac; done; unset IFS; "
    '[ "$PYTHONPATH" = "$o" ] || export PMITOGEN_PYTHONPATH="$o"; fi; '
)


def set_safe_path(environ):
    # type: (Dict[bytes, bytes]) -> None
    """Change *environ*, the environment for an interpreter that will be started."""
    environ.pop(SAVED_PYTHONPATH.encode("ascii"), None)
    if not environ.get(b"PYTHONSAFEPATH"):
        environ[b"PYTHONSAFEPATH"] = SAFE_PATH_VALUE.encode("ascii")
    original = environ.get(b"PYTHONPATH")
    if original:
        environ[b"PYTHONPATH"] = b":".join(entry for entry in original.split(b":") if entry.startswith(b"/"))
        if environ[b"PYTHONPATH"] != original:
            environ[SAVED_PYTHONPATH.encode("ascii")] = original
