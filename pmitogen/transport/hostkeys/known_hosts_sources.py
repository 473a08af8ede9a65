"""Sources of known host keys: the user's and system's files, KnownHostsCommand, RevokedHostKeys; and adding a key.

Files that are absent or unreadable count as empty, as in ssh; an error message about the key lists the unreadable ones.
Writing appends whole lines under a lock (flock), never rewrites: comments, markers and other people's lines stay as they are.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import fcntl
import ipaddress
import os
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Sequence

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.flags.ssh.tokens import expand
from pmitogen.transport.hostkeys import known_hosts, revocation
from pmitogen.transport.hostkeys.known_hosts import KnownHosts, KnownHostsLine
from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.certificate import Certificate
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.util import trusted_path
from pmitogen.util.caller import CallerEnvironment

COMMAND_TIMEOUT = 30  # seconds for KnownHostsCommand; ssh has no limit, but a user who can press Ctrl-C
LOCK_TIMEOUT = 5.0  # seconds; the lock is held only to write one line


def host_name(settings: Settings) -> str:
    """Return the name to look up in known_hosts: HostKeyAlias as it is, or the host name with its port."""
    if settings.hostkeyalias:
        return settings.hostkeyalias.lower()
    return known_hosts.lookup_name(settings.hostname, settings.port)


def is_local(address: str) -> bool:
    """Return True if *address* is loopback."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class KnownHostsSources:
    """All known_hosts sources of one connection. Parses a file again only if it changed; runs the command once per name."""

    def __init__(self, settings: Settings, address: str) -> None:
        self.settings = settings
        self.unreadable: list[str] = []
        self._files: list[KnownHosts] | None = None
        self._paths: list[str] = []
        self._commands: dict[tuple[str, str], KnownHosts] = {}
        self.address_name = self._address_name(address)

    def _address_name(self, address: str) -> str | None:
        """Return the name for CheckHostIP, or None if ssh makes no check: off, proxied, loopback, or the host is an address."""
        settings = self.settings
        if not settings.checkhostip or not address or settings.proxycommand or settings.proxyjump or is_local(address):
            return None
        return None if address == settings.hostname else known_hosts.lookup_name(address, settings.port)

    def lines(self, name: str, blob: bytes | None) -> list[KnownHostsLine]:
        """Return all valid lines that match *name*. *blob*: the server's key; None before it is known."""
        matching = [line for known in self._read() for line in known.lookup(name)]
        if self.settings.knownhostscommand:
            reason = "ORDER" if blob is None else "ADDRESS" if name == self.address_name else "HOSTNAME"
            matching += self._command(name, reason, blob).lookup(name)
        return [line for line in matching if line.blob is not None]

    def lines_without_port(self) -> list[KnownHostsLine]:
        """Return the lines of the host without a port, which apply to its other ports too; [] with an alias or on port 22.

        KnownHostsCommand is not run for them, as in ssh.
        """
        if self.settings.hostkeyalias or self.settings.port == 22:
            return []
        name = self.settings.hostname.lower()
        return [line for known in self._read() for line in known.lookup(name) if line.blob is not None]

    def searched_files(self) -> str:
        """Return the searched files for messages, with those that could not be read."""
        self._read()
        command = ["KnownHostsCommand"] if self.settings.knownhostscommand else []
        return ", ".join(self._paths + command + self.unreadable)

    def _read(self) -> list[KnownHosts]:
        if self._files is None:
            self._files = []
            for path in (*self.settings.userknownhostsfile, *self.settings.globalknownhostsfile):
                if path != "none":
                    self._read_one(path, self._files)
        return self._files

    def _read_one(self, path: str, files: list[KnownHosts]) -> None:
        try:
            files.append(known_hosts.read(path))
            self._paths.append(path)
        except FileNotFoundError:
            if path in self.settings.userknownhostsfile:
                self._paths.append(f"{path} (absent)")
        except OSError as error:
            self.unreadable.append(f"{path} (not readable: {error.strerror})")

    def _command(self, name: str, reason: str, blob: bytes | None) -> KnownHosts:
        key = (name, reason)
        if key not in self._commands:
            self._commands[key] = self._run_command(name, reason, blob)
        return self._commands[key]

    def _run_command(self, name: str, reason: str, blob: bytes | None) -> KnownHosts:
        command = self.settings.knownhostscommand or ""
        tokens = {
            **dict(self.settings.knownhostscommand_tokens),
            "H": name,
            "I": reason,
            "K": base64.b64encode(blob).decode() if blob else "NONE",
            "t": public_key.blob_type(blob) if blob else "NONE",
            "f": public_key.fingerprint(blob, self.settings.fingerprinthash) if blob else "NONE",
        }
        try:
            argv = [
                expand(argument, tokens) for argument in shlex.split(command)
            ]  # in this order: a token never makes two arguments
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
                **(self.settings.caller or CallerEnvironment.current()).popen_options(),
            )
        except ConfigValueError as error:
            self.unreadable.append(f"KnownHostsCommand ({error})")
            return KnownHosts()
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            self.unreadable.append(f"KnownHostsCommand (did not run: {getattr(error, 'strerror', None) or type(error).__name__})")
            return KnownHosts()
        if done.returncode != 0:
            self.unreadable.append(f"KnownHostsCommand (exit status {done.returncode})")
            return KnownHosts()
        return KnownHosts.parse(done.stdout.decode("utf-8", "surrogateescape"), "KnownHostsCommand")


def append(path: str, names: list[str], blob: bytes, *, hashed: bool) -> str:
    """Add *blob* under *names* to the file, made with ssh's modes if need be; returns ``file:line``. Raises OSError.

    A link is followed, as ssh does, unless another user may have planted it.
    Two connections that learn the same key at once write it once: the second finds it when it gets the lock.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISCHR(os.stat(path).st_mode):
            return path  # /dev/null: the user does not want it to be recorded
    key = public_key.public_line(blob)
    directory = os.path.dirname(path)
    if directory:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = trusted_path.open_for_append(path, readable=True)
    with open(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return path  # /dev/null: the user does not want it to be recorded
        _lock(file.fileno())
        text = file.read().decode("utf-8", "surrogateescape")
        parsed = KnownHosts.parse(text, path)
        new = [name for name in names if not any(line.blob == blob and not line.marker for line in parsed.lookup(name))]
        if not new:
            return parsed.lookup(names[0])[0].location
        # Hashed names stand alone on their line; others share one, as ssh writes them.
        lines = [f"{known_hosts.hash_name(name)} {key}" for name in new] if hashed else [f"{','.join(new)} {key}"]
        begin = "" if not text or text.endswith("\n") else "\n"
        file.write((begin + "\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
        return f"{path}:{text.count(chr(10)) + 1 + len(begin)}"


def _lock(descriptor: int) -> None:
    """Take an exclusive lock. Raises OSError after LOCK_TIMEOUT, so that another stopped process cannot block a login."""
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise OSError(errno.EAGAIN, "locked by another program") from None
            time.sleep(0.01)


def revoked_by(
    paths: Sequence[str], plain: bytes, certificate: Certificate | None, refuse: Callable[[str], ConnectError]
) -> str | None:
    """Return where RevokedHostKeys lists the key *plain*, its *certificate* or its authority; None: not revoked.

    Raises *refuse*'s error if a list cannot be read, because then no host key is safe.
    """
    location = None
    for path in paths:
        try:
            location = _revoked_in(path, plain, certificate) or location
        except OSError as error:
            raise refuse(f"RevokedHostKeys {path}: cannot read: {error.strerror}; no host key is accepted without it") from error
        except DecodeError as error:
            raise refuse(f"RevokedHostKeys {path}: invalid KRL: {error}; no host key is accepted without it") from error
    return location


def _revoked_in(path: str, plain: bytes, certificate: Certificate | None) -> str | None:
    with open(path, "rb") as file:
        content = file.read(revocation.MAX_FILE_SIZE + 1)
        if len(content) > revocation.MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if content.startswith(revocation.MAGIC):
            reason = revocation.read(path, content, os.fstat(file.fileno())).revocation_reason(plain, certificate)
            return f"{path} (a KRL, which lists {reason})" if reason else None
    blobs = [plain, *([certificate.authority_blob] if certificate else [])]
    for index, raw in enumerate(content.decode("utf-8", "surrogateescape").split("\n"), 1):
        if raw.strip() and not raw.lstrip().startswith("#") and _line_blob(raw) in blobs:
            return f"{path}:{index}"
    return None


def _line_blob(raw: str) -> bytes | None:
    """Return the plain key on a line of a public key file: a certificate there stands for its key, as in ssh."""
    fields = raw.split(None, 2)
    if len(fields) < 2:
        return None
    try:
        blob = base64.b64decode(fields[1], validate=True)
        return certificates.plain_blob(blob) if public_key.blob_type(blob) == fields[0] else None
    except (binascii.Error, ValueError, DecodeError):
        return None
