"""Three savings for modules: vfork in place of fork for programs, a wait without an event, and files of the locale.

ansible-core's ``run_command`` passes a ``preexec_fn`` to subprocess, which sets a umask if the module has requested one and
otherwise does nothing. With a ``preexec_fn``, subprocess uses fork(2), not vfork(2). That copies the page tables of a Python with
a module in it, which takes several times as long as the start of the program. Each page that is written afterwards is copied too.
So a ``preexec_fn`` that does nothing is left out. It is recognised by its code, not by its name. Older versions of it restore
SIGPIPE, which subprocess does too (``restore_signals``). Python before 3.11 has no function to replace, and is left unchanged.

If a program exits between two checks of ``run_command``, after it has closed its output, ``run_command`` waits one second for
output that cannot come: once in some hundreds of programs if they start quickly. This wait is left out.

Every module of ansible-core sets the locale of its account, for which the C library reads a dozen files, unless they are in use
already. So the runner loads them, without changing its own locale.
"""

import sys
import types

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional  # noqa: F401

LC_ALL_MASK = 0x1FBF  # LC_ALL_MASK of glibc

# Free variables and names of the function, in ansible-core 2.17 and later, and in 2.16.
PREEXEC_SHAPES = ((("umask",), ("os", "umask")), (("self", "umask"), ("_restore_signal_handlers", "os", "umask")))


def is_noop_preexec(value):
    # type: (object) -> bool
    """Return True if *value* is run_command's ``preexec_fn``, and it has no umask to set."""
    if type(value) is not types.FunctionType or value.__module__ != "ansible.module_utils.basic":
        return False
    code = value.__code__  # type: Any
    if (code.co_freevars, code.co_names) not in PREEXEC_SHAPES or not code.co_qualname.endswith(".run_command.<locals>.preexec"):
        return False
    return not (value.__closure__ or ())[code.co_freevars.index("umask")].cell_contents


def patch(subprocess, selectors):
    # type: (Any, Optional[types.ModuleType]) -> None
    """Change these modules of the standard library, once. The second may be None."""
    for name in ("PollSelector", "EpollSelector"):
        selector_class = getattr(selectors, name, None)  # type: Any
        if selector_class is not None and not hasattr(selector_class, "_pmitogen_patched"):
            selector_class._pmitogen_patched = True
            selector_class.select = patch_select(selector_class.select)
    original = getattr(subprocess, "_fork_exec", None)  # type: Any
    if original is None or getattr(original, "_pmitogen_patched", False):
        return

    def fork_exec(*args):
        # type: (*object) -> object
        return original(*[None if is_noop_preexec(arg) else arg for arg in args])

    setattr(fork_exec, "_pmitogen_patched", True)  # noqa: B010
    subprocess._fork_exec = fork_exec


def preload_locale():
    # type: () -> None
    """Load the files of this process's locale into the C library (newlocale(3)), for the children."""
    try:
        import ctypes  # module_utils imports it too

        ctypes.CDLL(None).newlocale(LC_ALL_MASK, b"", None)
    except Exception:  # without ctypes, or with another C library, they are read each time
        pass


def patch_select(select):
    # type: (Callable[[Any, Optional[float]], List[Any]]) -> Callable[[Any, Optional[float]], List[Any]]
    """Return the method *select* of a selector, without run_command's wait for no event."""

    def select_or_not(self, timeout=None):
        # type: (Any, Optional[float]) -> List[Any]
        if not self.get_map():
            caller = sys._getframe(1)
            if caller.f_code.co_name == "run_command" and caller.f_globals.get("__name__") == "ansible.module_utils.basic":
                return []
        return select(self, timeout)

    return select_or_not
