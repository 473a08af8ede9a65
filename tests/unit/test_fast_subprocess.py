"""The start of programs by modules, with the run_command of each installed ansible-core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import programs, session
from tests.support.ansible import installed_cores

CORES = installed_cores()
HEAD = f"""
{programs.ON_A_TARGET}
import json, os, selectors, subprocess
from pmitogen.target.payload import fast_subprocess as quick
from ansible.module_utils import basic
module = object.__new__(basic.AnsibleModule)
module.run_command_environ_update, module._name, module._debug, module.no_log_values = {{}}, "m", False, set()
module._syslog_facility = "LOG_USER"
"""
# fork runs registered functions before a fork, vfork does not.
PROGRAM = """
quick.patch(subprocess, None)
quick.patch(subprocess, None)  # the second call has no effect
forks = []
os.register_at_fork(before=lambda: forks.append(1))
def run(args, **more):
    del forks[:]
    out = basic.AnsibleModule.run_command(module, args, **more)
    return [out[0], out[1].strip(), len(forks)]
def ours():
    pass
shell = ["/bin/sh", "-c", "umask; grep SigIgn /proc/self/status"]
del forks[:]
subprocess.run(["true"], preexec_fn=ours)
print(json.dumps({"plain": run(shell), "umask": run(shell, umask=0o027), "other": len(forks)}))
"""

# A program's end between two polls of run_command, and another caller's wait without a result.
ENDS = """
waited = []
for kind in (selectors.PollSelector, selectors.EpollSelector):
    def select(self, timeout=None, original=kind.select):
        waited.append(len(self.get_map()))
        return original(self, timeout)
    kind.select = select
if sys.argv[2] == "quick":
    quick.patch(subprocess, selectors)
    quick.patch(subprocess, selectors)
looks = []
def poll(self):
    looks.append(1)
    return None if len(looks) == 1 else self.wait()
subprocess.Popen.poll = poll
said = basic.AnsibleModule.run_command(module, ["echo", "said"])[:2]
by_command = waited.count(0)
def run_command():
    return selectors.DefaultSelector().select(0)
run_command()
print(json.dumps([said, by_command, waited.count(0) - by_command]))
"""


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("how", ["plain", "quick"])
def test_run_command_does_not_wait_after_the_end_of_the_program(how: str, core: str) -> None:
    args = [str(CORES[core]), "-I", "-c", HEAD + ENDS, str(session.repository), how]
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0, "said\n"], 1 if how == "plain" else 0, 1]


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", CORES)
def test_only_functions_without_effect_are_skipped_before_exec(core: str) -> None:
    python = CORES[core]
    args = [str(python), "-I", "-c", HEAD + PROGRAM, str(session.repository)]
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, umask=0o022)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    version = subprocess.run(
        [str(python), "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True
    )
    quick = version.stdout.strip() == "True"
    ignored = "SigIgn:\t" + _ignored()
    assert seen["plain"] == [0, f"0022\n{ignored}", 0 if quick else 1]
    assert seen["umask"] == [0, f"0027\n{ignored}", 1]
    assert seen["other"] == 1


def _ignored() -> str:
    """Return the signals that a started program ignores: subprocess restores those that Python itself ignores.

    With a umask, as above: otherwise Python 3.13 uses posix_spawn, after which glibc's own signals are ignored as well.
    """
    program = f"print(open({str(Path('/proc/self/status'))!r}).read())"
    text = subprocess.run([sys.executable, "-c", program], capture_output=True, umask=0o022)
    found = next(line for line in text.stdout.decode().splitlines() if line.startswith("SigIgn"))
    return f"{int(found.split()[1], 16) & ~(1 << 12 | 1 << 24):016x}"  # SIGPIPE and SIGXFSZ
