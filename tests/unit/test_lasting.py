"""What is marked to last, and what that means to the interpreter: pmitogen/ansible/preload/lasting.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import programs, session

PYTHONS = programs.target_pythons() or {"this": sys.executable}
MODERN = {version: path for version, path in PYTHONS.items() if version in ("3.12", "3.13")}
# The module by itself: what it needs of Ansible is nothing, and nothing of ours has to be installed.
HEAD = """
import gc, importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("lasting", sys.argv[1] + "/pmitogen/ansible/preload/lasting.py")
lasting = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lasting)
def is_marked(one):
    before = sys.getrefcount(one)
    more = [one] * 7
    return sys.getrefcount(one) == before
"""
KINDS = """
class Mortal:
    def method(self): return 1
    @property
    def value(self): return 2
    def __del__(self): ended.append(self)
ended, one, held, bound = [], Mortal(), Mortal(), Mortal()
bound.append = [bound].append
def closing(held):
    return lambda: held
closure = closing(held)
things = {"instance": one, "list": [1, []], "file": open(os.devnull), "text": "a text of our own".upper(), "dict": {"a": one},
          "tuple": (one, []), "class": Mortal, "function": Mortal.method, "code": Mortal.method.__code__, "module": json,
          "property": Mortal.__dict__["value"], "class's dict": gc.get_referents(Mortal)[0], "module's dict": json.__dict__}
before = [name for name, thing in things.items() if is_marked(thing)]
lasting.mark(lasting.lasting(gc.get_objects()))
after = [name for name, thing in things.items() if is_marked(thing)]
del one, things, closure, held, bound
gc.collect()
print(json.dumps({"before": before, "after": after, "ended": len(ended), "works": Mortal().method() + Mortal().value}))
"""
FORKS = """
import json.decoder, logging.handlers, argparse, email.message, http.client, unittest.mock, xml.dom.minidom, asyncio, ssl
import resource
functions = [one for one in gc.get_objects() if type(one).__name__ == "function"]
def faults():
    reading, writing = os.pipe()
    gc.freeze()
    if not os.fork():
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for one in functions:
            one.__code__.co_name
        os.write(writing, b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start))
        os._exit(0)
    os.wait()
    return int(os.read(reading, 20))
known = lasting.lasting(gc.get_objects())
plain = faults()
assert lasting.mark(known)
print(json.dumps([plain, faults()]))
"""
COUNTDOWN = """
def answer():
    return is_marked(answer)
lasting.begin()
gc.freeze()
def later():
    pass
seen = []
for number in range(lasting.FORKS + 2):
    if not os.fork():
        for _ in range(lasting.FORKS):  # forks of a fork do not count
            os.fork() or os._exit(0)
            os.wait()
        os._exit(7 if answer() and not is_marked(later) else 3)
    seen.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps([lasting.FORKS, seen]))
"""


def _run(python: str, program: str) -> object:
    words = [python, "-I", "-c", HEAD + program, str(session.repository)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("python", MODERN)
def test_only_what_nobody_lets_go_of(python: str) -> None:
    lasting = ["class", "function", "code", "module", "property", "class's dict", "module's dict"]
    assert _run(MODERN[python], KINDS) == {"before": [], "after": lasting, "ended": 3, "works": 3}


@pytest.mark.parametrize("python", MODERN)
def test_a_fork_that_calls_functions_copies_fewer_pages(python: str) -> None:
    plain, marked = _run(MODERN[python], FORKS)  # type: ignore[misc]
    assert marked < plain / 4, (plain, marked)


@pytest.mark.parametrize("python", MODERN)
def test_when_enough_has_been_forked(python: str) -> None:
    forks, seen = _run(MODERN[python], COUNTDOWN)  # type: ignore[misc]
    assert seen == [3] * (forks - 1) + [7] * 3


@pytest.mark.parametrize("python", [version for version in PYTHONS if version not in ("2.7", "3.6", "3.7", "3.8", "3.9")])
def test_an_interpreter_that_is_not_known_is_left_alone(python: str) -> None:
    assert _run(PYTHONS[python], "print(json.dumps(lasting.is_known()))") == (python in MODERN)


@pytest.mark.parametrize("python", MODERN)
@pytest.mark.parametrize("strange", ["version", "debugging", "no global lock"])
def test_what_makes_an_interpreter_strange(strange: str, python: str) -> None:
    change = {
        "version": "lasting.KNOWN = ((3, 99),)",
        "debugging": "sys.gettotalrefcount = len",
        "no global lock": "sys.version = '3.13.0 experimental free-threading build (main, ...)'",
    }[strange]
    assert _run(MODERN[python], f"{change}\nprint(json.dumps(lasting.is_known()))") is False


@pytest.mark.parametrize("python", MODERN)
def test_nothing_is_marked_where_the_mark_means_nothing(python: str) -> None:
    """A count that lies elsewhere, or a mark that is an ordinary count, is noticed on an object made for that."""
    program = """
counts = lasting._Counts.from_address(0)
class Elsewhere:
    def __getitem__(self, at): return counts[at + 2]
    def __setitem__(self, at, value): raise AssertionError("written")
print(json.dumps([lasting._means_eternal(Elsewhere(), counts[id(None) >> 2]), lasting._means_eternal(counts, 1 << 20),
                  lasting._means_eternal(counts, counts[id(None) >> 2])]))
"""
    assert _run(MODERN[python], program) == [False, False, True]
