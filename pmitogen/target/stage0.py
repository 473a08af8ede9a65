"""The loader on an interpreter's command line: announce ourselves, read the bundle of known size, execute ``boot.py`` out of it.

Travels compressed, as one line that no shell's quoting can hurt: see hub/bootstrap.py. argv is [-c, token,
size, ...]; size 0 says that the bundle has its size before it, in ten digits. Stdin may be non-blocking (sudo with log_output),
hence the select. Parses on any Python, so that one that is too old can say so. Exits with 1 to 9 before it has read any of the
bundle only: then another interpreter may be tried.
"""

import json
import os
import select
import sys
import zlib

if sys.version_info < (2, 7):
    os.write(2, ("%s is Python %d.%d, older than 2.7\n" % ((sys.executable,) + sys.version_info[:2])).encode())
    sys.exit(126)
# As it was before the start: see start_state.py.
if os.environ.get("PYTHONSAFEPATH") == "pmitogen":
    del os.environ["PYTHONSAFEPATH"]
if "PMITOGEN_PYTHONPATH" in os.environ:
    os.environ["PYTHONPATH"] = os.environ.pop("PMITOGEN_PYTHONPATH")
os.write(1, ("PMITOGEN-%s ready\n" % sys.argv[1]).encode())


def read_exactly(size):
    data = "".encode()
    while len(data) < size:
        select.select([0], [], [])
        chunk = os.read(0, size - len(data))
        if not chunk:
            sys.exit(99)
        data += chunk
    return data


bundle = json.loads(zlib.decompress(read_exactly(int(sys.argv[2]) or int(read_exactly(10)))).decode())
namespace = {"__name__": "pmitogen_boot"}
try:
    exec(compile(bundle["files"]["pmitogen/target/boot.py"], "boot.py", "exec", 0, 1), namespace)
    namespace["main"](bundle)
except Exception:
    import traceback

    traceback.print_exc()
    sys.exit(99)
