"""Starting the programs that modules start, without copying the module's own process.

ansible-core's ``run_command`` hands subprocess a function to call between fork and exec. It sets a umask where the module asked
for one, and otherwise does nothing; but subprocess, which cannot know that, must then fork in full, where it would else use
vfork(2). In a process as large as a Python with a module in it that copy costs several times what the program's start does, and
every page that either process touches afterwards is copied once more.

So the one function that is provably idle is left out, and everything else is left as it is. It is known by its code, not by its
name; SIGPIPE, which older versions of it restore, is restored by subprocess itself (``restore_signals``). Python before 3.11
has another way into fork, and stays as it is.
"""

import types

# Free variables and names of the function, as ansible-core 2.17 and later have it, and as 2.16 has it.
SHAPES = ((('umask',), ('os', 'umask')), (('self', 'umask'), ('_restore_signal_handlers', 'os', 'umask')))


def is_idle(value):
    """Whether *value* is run_command's function to call before exec, with no umask to set."""
    if type(value) is not types.FunctionType or value.__module__ != 'ansible.module_utils.basic':
        return False
    code = value.__code__
    if (code.co_freevars, code.co_names) not in SHAPES or not code.co_qualname.endswith('.run_command.<locals>.preexec'):
        return False
    return not value.__closure__[code.co_freevars.index('umask')].cell_contents


def install(subprocess):
    """Have the module *subprocess* leave out what is idle. Idempotent."""
    original = getattr(subprocess, '_fork_exec', None)
    if original is None or getattr(original, 'leaves_out_idle', False):
        return

    def fork_exec(*args):
        return original(*[None if is_idle(arg) else arg for arg in args])

    fork_exec.leaves_out_idle = True
    subprocess._fork_exec = fork_exec
