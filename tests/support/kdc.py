"""A private MIT Kerberos KDC on loopback, with its realm, principals, keytab and tickets in one directory."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path

from . import processes
from .programs import find_program
from .sshd import free_port

REALM = "PMT.TEST"
START_TIMEOUT = 10.0  # seconds


class KDC:
    """A running KDC. *environment*: variables for programs that use its realm; *keytab*: keys of the host principals."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.port = free_port(["127.0.0.1"])
        self.keytab = directory / "keytab"
        (directory / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n"
            f" dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self.port}\n }}\n"
            f"[domain_realm]\n localhost = {REALM}\n .pmt.test = {REALM}\n"
        )
        (directory / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{self.port}\n kdc_tcp_listen = 127.0.0.1:{self.port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {directory}/principal\n  key_stash_file = {directory}/stash\n"
            f"  acl_file = {directory}/acl\n }}\n[logging]\n kdc = FILE:{directory}/log\n"
        )
        self.environment = {"KRB5_CONFIG": str(directory / "krb5.conf"), "KRB5_KDC_PROFILE": str(directory / "kdc.conf")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> KDC:
        """Create the realm and start the KDC."""
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", secrets.token_hex(16))
        command = [str(find_program("krb5kdc")), "-n", "-r", REALM, "-P", str(self.directory / "pid")]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        log = self.directory / "log"
        while not (log.exists() and "commencing operation" in log.read_text()):
            assert time.monotonic() < deadline and self._process.poll() is None, log.read_text() if log.exists() else "no log"
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End the KDC."""
        if self._process is not None:
            processes.kill_family(self._process.pid)
            self._process.wait()
            self._process = None

    def add_user(self, name: str) -> str:
        """Create a principal; return its password."""
        password = secrets.token_hex(8)
        self._run("kadmin.local", "-q", f"addprinc -pw {password} {name}")
        return password

    def add_host(self, name: str) -> None:
        """Create the principal of a host, and add its key to the keytab."""
        self._run("kadmin.local", "-q", f"addprinc -randkey host/{name}")
        self._run("kadmin.local", "-q", f"ktadd -k {self.keytab} host/{name}")

    def ticket(self, name: str, password: str) -> dict[str, str]:
        """Get a forwardable ticket for a user; return the environment for programs that use it."""
        cache = f"FILE:{self.directory}/cache-{name}"
        self._run("kinit", "-f", "-c", cache, name, text=password + "\n")
        return {**self.environment, "KRB5CCNAME": cache}

    def _run(self, *argv: str, text: str = "") -> None:
        env = {**os.environ, **self.environment}
        program = find_program(argv[0]) or argv[0]
        done = subprocess.run([program, *argv[1:]], env=env, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
