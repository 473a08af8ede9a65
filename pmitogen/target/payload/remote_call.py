"""A function of the embedding program, called in a child: JSON arguments in, JSON result out on stdout.

Travels with the function's own module (see hub/function_sources.py).
"""

import json
import sys
import traceback
import types


def run(header, parameters):
    """Call what *header* names with *params*, and print how that went as the last line."""
    install_placeholders(header["names"])
    __import__(header["fqn"])
    function = sys.modules[header["fqn"]]
    for part in header["func"].split("."):
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
    """Stands for a public name of pmitogen's: it may be imported and named here, but not used."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError(
            "pmitogen makes no connections from a host: call it from the program that connected, and if this is its script, "
            "put its own statements below: if __name__ == '__main__':"
        )


def install_placeholders(names):
    """Let the program's module import pmitogen at its top."""
    package = sys.modules["pmitogen"]
    for name in ("aio", "api", "errors"):
        module = sys.modules["pmitogen." + name] = types.ModuleType("pmitogen." + name)
        setattr(package, name, module)
    for name in names:
        placeholder = type(str(name), (RemotePlaceholder,), {})
        for module in (package, package.aio, package.api, package.errors):
            setattr(module, str(name), placeholder)
