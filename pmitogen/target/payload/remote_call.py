"""Calls a function of the program that uses the library in a child: JSON arguments in, a JSON result on stdout.

Travels with the function's module (see hub/function_sources.py).
"""

import json
import sys
import traceback
import types

MYPY = False
if MYPY:
    from typing import List  # noqa: F401
    from pmitogen.target.types import Header, Json  # noqa: F401


def run(header, parameters):
    # type: (Header, bytes) -> None
    """Call the function that *header* names with *parameters*, and print its result or exception as the last line."""
    install_placeholders(header["names"])
    __import__(header["module"])
    function = sys.modules[header["module"]]  # type: Json
    for part in header["function"].split("."):
        function = getattr(function, part)
    args, kwargs = json.loads(parameters.decode("utf-8"))
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        answer = {"value": function(*args, **dict((str(key), value) for key, value in kwargs.items()))}
        text = json.dumps(answer)
    except Exception as exc:
        text = json.dumps({"error": "%s: %s" % (type(exc).__name__, exc), "traceback": traceback.format_exc()})
    sys.stdout = stdout
    stdout.write("\n" + text)


class RemotePlaceholder(Exception):
    """Placeholder for a public name of pmitogen: on a host it can be imported, but not used."""

    def __init__(self, *args, **kwargs):
        # type: (*object, **object) -> None
        raise RuntimeError(
            "pmitogen makes no connections from a host; call it from the program that connected, and if this is its script, "
            "put its own statements below: if __name__ == '__main__':"
        )


def install_placeholders(names):
    # type: (List[str]) -> None
    """Make ``import pmitogen`` work in the program's module."""
    package = sys.modules["pmitogen"]  # type: Json
    for name in ("aio", "api", "errors"):
        module = sys.modules["pmitogen." + name] = types.ModuleType("pmitogen." + name)
        setattr(package, name, module)
    for name in names:
        placeholder = type(str(name), (RemotePlaceholder,), {})
        for module in (package, package.aio, package.api, package.errors):
            setattr(module, str(name), placeholder)
