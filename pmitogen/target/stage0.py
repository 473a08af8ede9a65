"""The loader on an interpreter's command line: print the marker, read the bundle, execute its ``boot.py``.

Travels compressed, as one line without characters that a shell would change: see hub/bootstrap.py. argv is [-c, token, size,
...]; if the size is 0, the bundle begins with its size in ten digits. stdin may be non-blocking (sudo with log_output), so
select is needed. Any Python can parse this file, so that a version that is too old can report it. The exit status is 1 to 9
only if nothing of the bundle was read: then the next interpreter can be tried.
"""

import json
import os
import select
import sys
import zlib

MYPY = False
if MYPY:
    from typing import Any  # noqa: F401

if sys.version_info < (2, 7):
    os.write(2, ("%s is Python %d.%d, older than 2.7\n" % ((sys.executable,) + sys.version_info[:2])).encode())
    sys.exit(126)
# Undo the changes that were made for the start: see start_state.py.
if os.environ.get("PYTHONSAFEPATH") == "pmitogen":
    del os.environ["PYTHONSAFEPATH"]
if "PMITOGEN_PYTHONPATH" in os.environ:
    os.environ["PYTHONPATH"] = os.environ.pop("PMITOGEN_PYTHONPATH")
os.write(1, ("PMITOGEN-%s ready\n" % sys.argv[1]).encode())


def read_exactly(size):
    # type: (int) -> bytes
    data = "".encode()
    while len(data) < size:
        select.select([0], [], [])
        chunk = os.read(0, size - len(data))
        if not chunk:
            sys.exit(99)
        data += chunk
    return data


bundle = json.loads(zlib.decompress(read_exactly(int(sys.argv[2]) or int(read_exactly(10)))).decode())
namespace = {"__name__": "pmitogen_boot"}  # type: Any
try:
    exec(compile(bundle["files"]["pmitogen/target/boot.py"], "boot.py", "exec", 0, True), namespace)
    namespace["main"](bundle)
except Exception:
    import traceback

    traceback.print_exc()
    sys.exit(99)
