"""Check overrides at import: raise ImportError if the base class lacks a method that a subclass overrides.

Some checks of pmitogen override private or undocumented methods of a library's class. If a release of the library renames such a
method, Python reports nothing, and the check is never called. The contract test (tests/support/upstream.py) runs in the test
suite only; this check runs on every installation.
"""

from __future__ import annotations


def require_methods(base: type, *signatures: str) -> None:
    """Check that *base* has each of these methods with these parameters: ``"_verify_key(self, host_key, sig)"``.

    Raises ImportError, naming the first missing one.
    """
    for signature in signatures:
        name, _, rest = signature.rstrip(")").partition("(")
        wanted = [parameter.strip() for parameter in rest.split(",")]
        actual = parameters(getattr(base, name, None))
        if actual != wanted:
            now = f"has {name}({', '.join(actual)})" if actual is not None else f"has no method {name}"
            raise ImportError(
                f"pmitogen overrides {base.__module__}.{base.__qualname__}.{signature}, but this release of "
                f"{base.__module__.partition('.')[0]} {now}; install a release that pmitogen supports"
            )


def parameters(method: object) -> list[str] | None:
    """Return the names of a function's parameters without ``*args`` and ``**kwargs``; None if it is not a Python function."""
    code = getattr(method, "__code__", None)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code is not None else None
