"""Run one target or playbook over one connection: ``python play.py JSON``, in an image of this machine.

A target runs as in ansible-test: a role is applied to the host ``testhost``, a script ``runme.sh`` is started. A playbook runs
twice on the same host. The host is the image itself, as root, over sshd on port 22. With the connection ``shims``, Ansible's
ssh plugin starts pmitogen's programs, and OpenSSH's client is removed from the image. Standard library only: the interpreter
is that of the ansible-core under test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_OUTPUT = Path("/tmp/target-output")
_SHIMS = Path("/usr/local/bin")  # on the PATH of commands on the host, too
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONNECTION = re.compile(r"(connection[\"']?\s*[=:]\s*[\"']?)(?:paramiko_)?ssh\b(?!_)")
_ROLE = """- hosts: testhost
  gather_facts: {facts}
  vars:
    output_dir: {output}
  roles:
    - role: {role}
"""


def _prepare_accounts(python: str, packages: str) -> None:
    """Give root a key, known hosts and no start-up files, and give every account an interpreter that it may run."""
    Path("/etc/environment").write_text("")
    for name in (".bashrc", ".bash_profile", ".bash_login", ".profile"):
        Path("/root", name).unlink(missing_ok=True)
    shutil.rmtree("/root/.ssh", ignore_errors=True)
    os.mkdir("/root/.ssh", 0o700)
    # New accounts get unused numbers: tests outside of the image end the processes of their own accounts.
    defs = Path("/etc/login.defs")
    defs.write_text(re.sub(r"(?m)^([UG]ID_MIN\s+)1000$", r"\g<1>40000", defs.read_text()))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"], check=True)
    shutil.copy("/root/.ssh/id_ed25519.pub", "/root/.ssh/authorized_keys")
    subprocess.run(["ssh-keygen", "-A"], check=True)
    with open("/root/.ssh/known_hosts", "w", encoding="utf-8") as known:
        for path in Path("/etc/ssh").glob("ssh_host_*_key.pub"):
            known.write(f"localhost,127.0.0.1 {path.read_text()}")
    with open("/etc/hosts", "a", encoding="utf-8") as hosts:
        hosts.write("\n127.0.0.1 testbox\n")
    Path("/usr/local/bin/ansible").unlink(missing_ok=True)
    Path("/usr/local/bin/ansible").symlink_to(Path(python).with_name("ansible"))  # some targets start it on the host
    for path in {Path(python), Path(python).resolve()}:
        for parent in path.parents:
            parent.chmod(parent.stat().st_mode | 0o055)
    for directory in Path(python).parent.parent.glob("lib/python3*/site-packages"):
        (directory / "core-targets.pth").write_text(packages + "\n")


def _start_sshd() -> None:
    os.makedirs("/run/sshd", exist_ok=True)
    options = ("UsePAM=yes", "PermitRootLogin=yes", "MaxSessions=100", "MaxStartups=100")
    args = [word for option in options for word in ("-o", option)]
    subprocess.run(["/usr/sbin/sshd", *args], env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, check=True)


def _replace_client(options: dict[str, Any]) -> None:
    """Remove OpenSSH's client from the image, and create pmitogen's programs under its names."""
    for directory in _SYSTEM_PATH.split(":"):
        for name in options["openssh"]:
            Path(directory, name).unlink(missing_ok=True)
    command = [options["python"], "-m", "pmitogen", "setup", "--shims", str(_SHIMS)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": options["repository"]}, check=True)


def _replace_connection(targets: Path) -> None:
    """Replace the connection ssh by pmitogen in every inventory and play."""
    for path in targets.rglob("*"):
        if path.is_file() and not path.is_symlink():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            changed = _CONNECTION.sub(r"\1pmitogen", text)
            if changed != text:
                path.write_text(changed, encoding="utf-8")


def _environment(options: dict[str, Any], integration: Path) -> dict[str, str]:
    """Return the variables that ansible-test sets, plus the plugin and the callback that writes results."""
    (integration / "empty.cfg").write_text("")
    return {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "LC_ALL": "C.UTF-8",
        "PAGER": "/bin/cat",
        "PATH": f"{Path(options['python']).parent}:{_SYSTEM_PATH}",
        "PYTHONPATH": options["repository"],
        "OUTPUT_DIR": str(_OUTPUT),
        "INVENTORY_PATH": str(integration / "inventory"),
        "ANSIBLE_CONFIG": str(integration / "empty.cfg"),
        "ANSIBLE_INVENTORY": "/dev/null",
        "ANSIBLE_LIBRARY": "/dev/null",
        "ANSIBLE_ROLES_PATH": str(integration / "targets"),
        "ANSIBLE_PYTHON_INTERPRETER": "/set/in/inventory",
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
        "ANSIBLE_FORCE_HANDLERS": "true",
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_DEVEL_WARNING": "false",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONNECTION_PLUGINS": options["plugins"],
        "ANSIBLE_CALLBACK_PLUGINS": options["callbacks"],
        "ANSIBLE_CALLBACKS_ENABLED": "records",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "PMITOGEN_TEST_RECORDS": f"{options['results']}/records",
    }


def main(options: dict[str, Any]) -> None:
    integration, results = Path(options["integration"]), Path(options["results"])
    _prepare_accounts(options["python"], options["packages"])
    _start_sshd()
    connection = options["connection"]
    if connection == "pmitogen":
        _replace_connection(integration / "targets")
    elif connection == "shims":
        _replace_client(options)
        connection = "ssh"
    for name, old, new in options["expectations"]:
        path = integration / "targets" / options["target"] / name
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"{path} has no {old!r}: update EXPECTATIONS in tests/core_targets/targets.py up to date")
        path.write_text(text.replace(old, new), encoding="utf-8")
    host = f"ansible_host=127.0.0.1 ansible_user=root ansible_connection={connection} ansible_pipelining=yes"
    (integration / "inventory").write_text(f"[testgroup]\ntesthost {host} ansible_python_interpreter={options['python']}\n")
    _OUTPUT.mkdir()
    with (results / "output").open("wb") as output:
        rc, seconds = _Play(integration, results, _environment(options, integration), output).play(options)
    (results / "ended").write_text(json.dumps({"rc": rc, "seconds": seconds}))


class _Play:
    """The commands of one run. All write to *output*."""

    def __init__(self, integration: Path, results: Path, env: dict[str, str], output: IO[bytes]) -> None:
        self._integration, self._results, self._env, self._output = integration, results, env, output

    def play(self, options: dict[str, Any]) -> tuple[int, float]:
        """Run the target or the playbook of *options*. Return the exit status and the duration in seconds."""
        if "playbook" in options:
            return self._timed(lambda: self._play_book(Path(options["playbook"])) or self._play_book(Path(options["playbook"])))
        directory = self._integration / "targets" / options["target"]
        aliases = (directory / "aliases").read_text() if (directory / "aliases").exists() else ""
        for role in re.findall(r"setup/(?:always|once)/(\S+)", aliases):
            self._play_role(role, aliases)
        if (directory / "runme.sh").exists():
            self._env["ANSIBLE_PLAYBOOK_DIR"] = str(directory)
            return self._timed(lambda: self._run("./runme.sh", "-v", cwd=directory))
        return self._timed(lambda: self._play_role(options["target"], aliases))

    def _timed(self, command: Callable[[], int]) -> tuple[int, float]:
        (self._results / "records").write_bytes(b"")  # discards results of the roles that prepare the target
        began = time.monotonic()
        return command(), time.monotonic() - began

    def _play_role(self, role: str, aliases: str) -> int:
        facts = "no" if "gather_facts/no" in aliases else "yes"
        book = self._integration / f"{role}.yml"
        book.write_text(_ROLE.format(facts=facts, output=_OUTPUT, role=role))
        return self._play_book(book)

    def _play_book(self, book: Path) -> int:
        return self._run("ansible-playbook", "-v", "-i", str(self._integration / "inventory"), str(book), cwd=book.parent)

    def _run(self, *command: str, cwd: Path) -> int:
        done = subprocess.run(
            command, cwd=cwd, env=self._env, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, check=False
        )
        return done.returncode


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
