"""Overrides that fail closed: importing fails if the base class has lost a method that one of ours takes the place of.

Some of our checks are methods of a library's class, private or undocumented ones, in a subclass of ours. If a release of the
library renames such a method, Python says nothing, and the check is never called. What the table of the contract test says of
each (tests/support/upstream.py) is looked at in our tests only; what is said here is looked at wherever we run.
"""

from __future__ import annotations


def require_methods(base: type, *signatures: str) -> None:
    """Check that *base* has each of these methods with these parameters: ``"_verify_key(self, host_key, sig)"``.

    Raises ImportError, which names the first that is missing.
    """
    for signature in signatures:
        name, _, rest = signature.rstrip(")").partition("(")
        wanted = [parameter.strip() for parameter in rest.split(",")]
        found = parameters(getattr(base, name, None))
        if found != wanted:
            now = f"has {name}({', '.join(found)})" if found is not None else f"has no method {name}"
            raise ImportError(
                f"pmitogen overrides {base.__module__}.{base.__qualname__}.{signature}, but this release of "
                f"{base.__module__.partition('.')[0]} {now}: install a release that pmitogen supports"
            )


def parameters(method: object) -> list[str] | None:
    """The names of a function's parameters, without those that collect the rest; None if it is no function of Python's."""
    code = getattr(method, "__code__", None)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code is not None else None
