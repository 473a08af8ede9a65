"""``pmitogen demo``: run a playbook over pmitogen against a temporary SSH server on loopback.

Requires ansible-core in the same environment, but neither sshd nor root. All files are created in a temporary directory and
removed at the end. PATH begins with decoys of ssh, scp, sftp and sshpass that log their start and fail: the demo passes only if
every task succeeds and no decoy was started.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pmitogen.cli.errors import Parser
from pmitogen.util.sizes import format_count

if TYPE_CHECKING:
    from pmitogen.cli.demo.server import DemoServer

PLUGINS = Path(__file__).resolve().parents[2] / "ansible" / "plugins" / "connection"
_SSH_PROGRAMS = ("ssh", "scp", "sftp", "sshpass")
# As ``python -m ansible``, without the current directory on the path.
_START_ANSIBLE = (
    "import sys; sys.path = [path for path in sys.path if path]; "
    "import runpy; runpy.run_module('ansible', run_name='__main__', alter_sys=True)"
)

_PLAYBOOK = """\
- name: A small but real playbook, with connection pmitogen
  hosts: all
  gather_subset: [min]
  tasks:
    - name: Run a command
      ansible.builtin.command: hostname
      register: said
      changed_when: false

    - name: Make a directory
      ansible.builtin.file: {path: "{{ work }}/made", state: directory, mode: "0750"}

    - name: Copy a file
      ansible.builtin.copy: {src: greeting.txt, dest: "{{ work }}/made/greeting.txt", mode: "0640"}

    - name: Fill in a template
      ansible.builtin.template: {src: report.j2, dest: "{{ work }}/made/report.txt", mode: "0600"}

    - name: Look at a file
      ansible.builtin.stat: {path: "{{ work }}/made/greeting.txt"}
      register: greeting

    - name: Read the report back
      ansible.builtin.slurp: {src: "{{ work }}/made/report.txt"}
      register: report

    - name: All of it is as it should be
      ansible.builtin.assert:
        quiet: true
        that:
          - greeting.stat.mode == "0640"
          - greeting.stat.size == 6
          - (report.content | b64decode) == "on " ~ said.stdout ~ " runs " ~ ansible_facts.system ~ "\\n"
"""
_TASKS = 8  # of the playbook, facts included
_FILES = {
    "ansible.cfg": "",  # instead of the user's
    "play.yml": _PLAYBOOK,
    "greeting.txt": "hello\n",
    "report.j2": "on {{ said.stdout }} runs {{ ansible_facts.system }}\n",
}


def run(args: list[str]) -> int:
    """Run the command. Returns 0 only if every task succeeded and no ssh program was started."""
    parser = Parser(prog="pmitogen demo", description="Run a small playbook against a temporary SSH server.")
    parser.add_argument("-v", action="count", default=0, help="as for ansible-playbook")
    options = parser.parse(args)
    if importlib.util.find_spec("ansible") is None:
        print(f"demo: ansible-core: not installed for {sys.executable}; run: pip install ansible-core", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="pmitogen-demo-") as name:
        return _demonstrate(Path(name), options.v)


def _demonstrate(directory: Path, verbosity: int) -> int:
    # Imported here so that --help does not load Paramiko.
    import paramiko

    from pmitogen.cli.demo.server import DemoServer

    keys = [_make_key(directory / name) for name in ("host_key", "user_key")]
    host_key, user_key = (paramiko.Ed25519Key.from_private_key_file(str(path)) for path in keys)
    decoy_log = _install_decoys(directory)
    with DemoServer(host_key, user_key) as server:
        print(f"demo: a temporary SSH server listens on {server.address}:{server.port}", flush=True)
        _write_files(directory, server)
        code = _run_playbook(directory, verbosity)
        return _report(code, directory, decoy_log, server)


def _make_key(path: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    text = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(text)
    return path


def _install_decoys(directory: Path) -> Path:
    """Create programs with the names of ssh's programs that fail. Returns the file in which they log that they were started."""
    decoy_log = directory / "started"
    (directory / "bin").mkdir()
    for name in _SSH_PROGRAMS:
        program = directory / "bin" / name
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {shlex.quote(str(decoy_log))}\nexit 255\n')
        program.chmod(0o755)
    return decoy_log


def _write_files(directory: Path, server: DemoServer) -> None:
    for name, text in _FILES.items():
        (directory / name).write_text(text)
    host_key = server.host_key
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"[{server.address}]:{server.port} {host_key.get_name()} {host_key.get_base64()}\n")
    variables = {
        "ansible_connection": "pmitogen",
        "ansible_host": server.address,
        "ansible_port": server.port,
        "ansible_user": pwd.getpwuid(os.getuid()).pw_name,
        "ansible_ssh_private_key_file": str(directory / "user_key"),
        # The user's own ssh configuration is for the user's own hosts.
        "ansible_ssh_common_args": f"-F none -o IdentitiesOnly=yes -o UserKnownHostsFile={shlex.quote(str(known_hosts))}",
        "ansible_python_interpreter": sys.executable,
        "work": str(directory),
    }
    (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": {"demo": variables}}}))


def _run_playbook(directory: Path, verbosity: int) -> int:
    """Run ansible-playbook on this terminal. Returns its exit code, or 130 if the user interrupted it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    env.update(
        PATH=f"{directory / 'bin'}:{env.get('PATH', os.defpath)}",
        ANSIBLE_CONFIG=str(directory / "ansible.cfg"),
        ANSIBLE_HOME=str(directory / "ansible"),
        ANSIBLE_CONNECTION_PLUGINS=str(PLUGINS),
    )
    argv = [
        sys.executable,
        *(["-P"] if sys.version_info >= (3, 11) else []),
        "-c",
        _START_ANSIBLE,
        "playbook",
        "-i",
        "hosts.json",
        "play.yml",
    ]
    if verbosity:
        argv.append("-" + "v" * verbosity)
    with subprocess.Popen(argv, cwd=directory, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has sent it to ansible-playbook as well
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.send_signal(signal.SIGKILL)
            return 130


def _report(code: int, directory: Path, decoy_log: Path, server: DemoServer) -> int:
    """Print the outcome and return the exit code."""
    if code:
        print(f"demo: FAILED: ansible-playbook exited {code}", flush=True)
        return code
    if decoy_log.exists():
        print("demo: FAILED: ssh programs were started:\n" + decoy_log.read_text(), flush=True)
        return 1
    if not (directory / "made" / "report.txt").exists() or not server.sessions:
        print("demo: FAILED: the playbook did not reach the server", flush=True)
        return 1
    print(
        f"demo: passed: {_TASKS} tasks over {format_count(server.connections, 'connection')} and"
        f" {format_count(server.sessions, 'session channel')}; no ssh program was started",
        flush=True,
    )
    return 0
