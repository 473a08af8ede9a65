"""Less of what every module does: copying its own process to start a program, waiting for one that has ended, reading tables.

ansible-core's ``run_command`` hands subprocess a function to call between fork and exec. It sets a umask where the module asked
for one, and otherwise does nothing; but subprocess, which cannot know that, must then fork in full, where it would else use
vfork(2). In a process as large as a Python with a module in it that copy costs several times what the program's start does, and
every page that either process touches afterwards is copied once more.

So the one function that is provably idle is left out, and everything else is left as it is. It is known by its code, not by its
name; SIGPIPE, which older versions of it restore, is restored by subprocess itself (``restore_signals``). Python before 3.11
has another way into fork, and stays as it is.

When such a program has closed its output and ends between two looks at whether it has, ``run_command`` waits a second for output
that nothing is left to give: once in some hundreds of programs, where starting them is quick. That one wait, with nothing to
wait for, is left out too.

Every module of ansible-core sets its account's locale, for which the C library reads a dozen small files. It does not where it
has them in use already; so this process holds them, without changing its own locale.
"""

import sys
import types

LC_ALL_MASK = 0x1FBF  # LC_ALL_MASK of glibc

# Free variables and names of the function, as ansible-core 2.17 and later have it, and as 2.16 has it.
PREEXEC_SHAPES = ((("umask",), ("os", "umask")), (("self", "umask"), ("_restore_signal_handlers", "os", "umask")))


def is_noop_preexec(value):
    """Whether *value* is run_command's function to call before exec, with no umask to set."""
    if type(value) is not types.FunctionType or value.__module__ != "ansible.module_utils.basic":
        return False
    code = value.__code__
    if (code.co_freevars, code.co_names) not in PREEXEC_SHAPES or not code.co_qualname.endswith(".run_command.<locals>.preexec"):
        return False
    return not value.__closure__[code.co_freevars.index("umask")].cell_contents


def patch(subprocess, selectors):
    """Have these modules of the standard library (the second may be None) leave out what is idle. Idempotent."""
    for name in ("PollSelector", "EpollSelector"):
        selector_class = getattr(selectors, name, None)
        if selector_class is not None and not hasattr(selector_class, "_pmitogen_patched"):
            selector_class._pmitogen_patched = True
            selector_class.select = patch_select(selector_class.select)
    original = getattr(subprocess, "_fork_exec", None)
    if original is None or getattr(original, "_pmitogen_patched", False):
        return

    def fork_exec(*args):
        return original(*[None if is_noop_preexec(arg) else arg for arg in args])

    fork_exec._pmitogen_patched = True
    subprocess._fork_exec = fork_exec


def preload_locale():
    """Have the C library keep the tables of this process's locale (newlocale(3)), for the children that will ask for them."""
    try:
        import ctypes  # as module_utils do

        ctypes.CDLL(None).newlocale(LC_ALL_MASK, b"", None)
    except Exception:  # no ctypes here, or a C library that has none such: they are read each time
        pass


def patch_select(select):
    """The method *select* of a selector, without run_command's waits for nothing."""

    def select_or_not(self, timeout=None):
        if not self.get_map():
            caller = sys._getframe(1)
            if caller.f_code.co_name == "run_command" and caller.f_globals.get("__name__") == "ansible.module_utils.basic":
                return []
        return select(self, timeout)

    return select_or_not
