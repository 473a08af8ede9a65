"""What lasts as long as the process, marked as such in the interpreter, so that the workers forked from it need not copy it.

CPython counts the references to each object in the object itself, so a worker that only calls a function writes to it, and
gets a copy of the page that it shares with its parent. That is some two thousand pages in each worker, a fourth of what it costs.
From Python 3.12 on the count of an *immortal* object is left alone (PEP 683). The interpreter has such objects of its own (None,
its own types) and offers no call to make others, so the mark is written to where the count lies.

It is given only to what nobody lets go of in the life of a run: modules, classes, functions, their code, and the dictionaries
and tuples that belong to them. Nothing with a file, a lock or a finalizer is among these, nor what holds such a thing for
others (closures, bound methods), and an object that would have ended after all merely stays. It is not given at all by an
interpreter whose objects may lie differently from those that are known here (other versions, builds for debugging or without
the global lock), nor by one that does not show, on an object of ours, that the count is where we look for it and that the mark
means what it should.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

KNOWN = ((3, 12), (3, 13))
# A run of fewer workers would pay more for the marking (20 ms, once) than it gets.
FORKS = 8
_Counts = ctypes.c_uint32 * (1 << 45)  # all of the memory, as halves of a word; a count is at the address of its object
_MARKED = frozenset(
    (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, property, staticmethod, classmethod)
    + (types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType, types.WrapperDescriptorType)
)
_OWNERS = frozenset((types.FunctionType, types.ModuleType))  # and classes: what they refer to is looked at as well
_OWNED = frozenset((types.CodeType, dict, tuple))


def begin() -> None:
    """Mark what lasts of what there is now, once this process has forked some workers and so is likely to fork many more.

    What is loaded later is left out: it is little of what workers use, and an inventory may be a million objects to look through.
    """
    if is_known():
        os.register_at_fork(before=_Countdown(os.getpid(), lasting(gc.get_objects())))


def is_known() -> bool:
    """Whether the objects of this interpreter are of the kind that is known here."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in KNOWN
        and sys.byteorder == "little"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and not hasattr(sys, "gettotalrefcount")
        and "free-threading" not in sys.version
    )


class _Countdown:
    """Called before each fork of this process, and of those forked from it, which are none of its business."""

    def __init__(self, pid: int, objects: list[Any]) -> None:
        self._pid, self._objects, self._left = pid, objects, FORKS

    def __call__(self) -> None:
        if self._left and os.getpid() == self._pid:
            self._left -= 1
            if not self._left:
                with contextlib.suppress(Exception):
                    mark(self._objects)
                self._objects = []


def lasting(objects: Iterable[Any]) -> list[Any]:
    """Those of *objects* that nobody lets go of."""
    kinds: dict[type, bool] = {}
    found = []
    for one in objects:
        kind = type(one)
        if kind not in kinds:
            kinds[kind] = kind in _MARKED or issubclass(kind, type)
        if kinds[kind] and not _holds(one, kind):
            found.append(one)
    return found


def _holds(one: Any, kind: type) -> bool:
    """Whether it keeps something else alive that may be meant to end: what a closure or a bound method is about."""
    if kind is types.FunctionType:
        return one.__closure__ is not None
    return kind is types.BuiltinFunctionType and type(one.__self__) is not types.ModuleType and one.__self__ is not None


def mark(objects: Iterable[Any]) -> bool:
    """Mark *objects*, and what belongs to them. Returns whether that could be done."""
    counts = _Counts.from_address(0)
    eternal = counts[id(None) >> 2]
    if not _means_eternal(counts, eternal):
        return False
    for one in objects:
        counts[id(one) >> 2] = eternal
        if type(one) in _OWNERS or isinstance(one, type):
            for other in gc.get_referents(one):
                if type(other) in _OWNED:
                    counts[id(other) >> 2] = eternal
    return True


def _means_eternal(counts: Any, eternal: int) -> bool:
    """Try it on an object of our own: is its count where we look, and does it stand still once it is *eternal*?"""
    scrap: Callable[[], None] = lambda: None  # noqa: E731
    at = id(scrap) >> 2
    before = counts[at]
    more = [scrap] * 3
    if before != sys.getrefcount(scrap) - 1 - len(more) or counts[at] != before + len(more):
        return False
    counts[at] = eternal
    more.append(scrap)
    return bool(counts[at] == eternal)
