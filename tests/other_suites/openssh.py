"""OpenSSH's regress scripts with our programs: ``connect`` is ``regress/connect.sh`` of the source."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.support.sshd import find_sshd

from . import commands

LIMIT = 1800.0  # seconds for a script
_HELPERS = ("modpipe", "netcat", "setuid-allowed", "mkdtemp", "check-perm")
_PROGRAMS = ("ssh", "scp", "sftp", "ssh-keygen", "ssh-keyscan", "ssh-agent", "ssh-add")
# Scripts that do not apply, and the reason.
_CERTIFICATES = "needs ssh-keygen to sign certificates"
_SERVER = "is about sshd alone"
_OTHER = "runs another client"
EXCLUDED = {
    "addrmatch": _SERVER,
    "cfgmatchlisten": _SERVER,
    "cfgparse": _SERVER,
    "proto-mismatch": _SERVER,
    "proto-version": _SERVER,
    "reexec": _SERVER,
    "servcfginclude": _SERVER,
    "dhgex": "looks for a line of OpenSSH's debug log",
    "hostkey-rotate": "needs UpdateHostKeys",
    "hostbased": "needs host-based authentication",
    "agent-getpeereid": "skips itself as root; tests/integration/test_cli_agent.py tests the same",
    "agent-ptrace": "skips itself as root",
    "agent-pkcs11": "needs an agent that loads PKCS#11 providers",
    "agent-restrict": "needs keys that are restricted to hosts (ssh-add -h)",
    "conch-ciphers": _OTHER,
    "dropbear-ciphers": _OTHER,
    "dropbear-kex": _OTHER,
    "keygen-moduli": "needs ssh-keygen to make DH groups",
    "keygen-sshfp": "needs ssh-keygen to print SSHFP records",
    "krl": "needs ssh-keygen to make revocation lists",
    "putty-ciphers": _OTHER,
    "putty-kex": _OTHER,
    "putty-transfer": _OTHER,
    "sshfp-connect": "needs SSHFP records in the DNS",
    "sshsig": "needs ssh-keygen to sign files",
    "sftp-perm": "lists the requests that OpenSSH's client sends",
    "ssh-com": _OTHER,
    "ssh-com-client": _OTHER,
    "ssh-com-keygen": _OTHER,
    "ssh-com-sftp": _OTHER,
}
# Scripts that use certificates or other keys that our ssh-keygen does not make. They run with OpenSSH's.
THEIR_KEYGEN = {
    "agent": _CERTIFICATES,
    "cert-file": _CERTIFICATES,
    "cert-hostkey": _CERTIFICATES,
    "cert-userkey": _CERTIFICATES,
    "hostkey-agent": _CERTIFICATES,
    "keys-command": _CERTIFICATES,
    "limit-keytype": _CERTIFICATES,
    "multipubkey": _CERTIFICATES,
    "principals-command": _CERTIFICATES,
}
# The scripts copy a program of the suite as test data. Ours is too short: sftp-server is as long as OpenSSH's ssh-agent.
_DATA = ("cat ${SSHAGENT_BIN} >", "cat ${SFTPSERVER_BIN} >")
# Text of scripts that is about ssh's own log, RSA signatures by SHA-1 or the old protocol of scp, and what replaces it.
REPLACED = {
    "integrity": [("Bad?packet*)", "*Connection?corrupted*)")],
    "keyscan": [("HostKeyAlgorithms $algs", "HostKeyAlgorithms $algs,rsa-sha2-512")],
    "scp": [("for mode in scp sftp", "for mode in sftp")],
    "scp-uri": [("for mode in scp sftp", "for mode in sftp")],
    "rekey": [("NEWKEYS sent", "Switch to new keys")],
    # As in OpenSSH 10.5, a certificate without principals is valid for no host.
    "cert-hostkey": [
        ('test_one "empty principals"\tsuccess', 'test_one "empty principals"\tfailure'),
        ('success "-h -V-1w:+2w"', 'success "-h -n $HOSTS -V-1w:+2w"'),
    ],
    "cert-userkey": [('echo "$n*,ssh-rsa*,ssh-ed25519*"', 'echo "$n*,rsa-sha2-*,ssh-ed25519*"')],
    # A command uses a master only where it would have made the same connection; and Python takes time to start.
    "connection-timeout": [
        ("-oControlMaster=no -Fnone", "-oControlMaster=no -F$OBJ/ssh_proxy -oExitOnForwardFailure=yes"),
        ("UnusedConnectionTimeout 2", "UnusedConnectionTimeout 5"),
    ],
    "kextype": [("`${SSH} -Q kex`", "`${SSH} -Q kex | grep -v mlkem`")],  # sshd has it since 9.9
    "hostkey-agent": [
        ("`ssh -Q key-sig", "`$SSH -Q key-sig"),
        ("HostKeyAlgorithms $k", "HostKeyAlgorithms $k,rsa-sha2-512"),
        ("HostKeyAlgorithms=$k -F", "HostKeyAlgorithms=$k,rsa-sha2-512 -F"),
    ],
}


def names(source: Path) -> list[str]:
    """Return the names of all scripts in the order of the Makefile."""
    text = (source / "regress/Makefile").read_text().replace("\\\n", " ")
    found = re.search(r"^LTESTS=(.*)$", text, re.MULTILINE)
    return found[1].split() if found else []


def prepare(source: Path) -> None:
    """Build the helpers of the scripts."""
    helpers = " ".join(f"regress/{name}" for name in _HELPERS)
    commands.build(source, "[ -x configure ] || autoreconf", "./configure --without-zlib", f"make {helpers}")


def run(name: str, source: Path, folder: Path, shims: Path) -> tuple[int, str]:
    """Run one script; return its status and output."""
    folder = folder.with_name(folder.name.replace("hostkey", "host-key"))  # scripts remove lines with that word, and so paths
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for helper in _HELPERS:
        shutil.copy(source / "regress" / helper, folder / helper)
    regress = source / "regress"
    environment = {f"TEST_SSH_{each.replace('-', '').upper()}": str(shims / each) for each in _PROGRAMS}
    if name in THEIR_KEYGEN:
        environment["TEST_SSH_SSHKEYGEN"] = shutil.which("ssh-keygen") or "ssh-keygen"
    environment |= {
        "TEST_SHELL": "/bin/sh",
        "TEST_SSH_SSHD": find_sshd() or "sshd",
        "TEST_SSH_SFTPSERVER": "/usr/lib/openssh/sftp-server",
        "TEST_SSH_UNSAFE_PERMISSIONS": "1",
        "BUILDDIR": str(source),
        "OBJ": str(folder),
        "SUDO": "",
        "TEST_SSH_PLINK": "/nonexistent",
        "TEST_SSH_CONCH": "/nonexistent",
    }
    os.makedirs("/run/sshd", exist_ok=True)
    framework = _changed(regress / "test-exec.sh", [_DATA], folder / "test-exec.sh")
    # Beside the original: the scripts find other files of the suite there.
    script = _changed(regress / f"{name}.sh", REPLACED.get(name, []), regress / f"{name}-changed.sh")
    argv = ["/bin/sh", str(framework), str(folder), str(script)]
    return commands.run(argv, regress, folder / "output", environment, LIMIT)


def _changed(script: Path, replacements: list[tuple[str, str]], copy: Path) -> Path:
    """Return *script*, or *copy* with the replacements, if there are any. Raises ValueError for a text that is not there."""
    if not replacements:
        return script
    text = script.read_text()
    for old, new in replacements:
        if old not in text:
            raise ValueError(f"{script}: no text {old!r}")
        text = text.replace(old, new)
    copy.write_text(text)
    return copy
