"""Verify a server's host key: known_hosts, host certificates, and StrictHostKeyChecking.

Missing upstream (Paramiko 5.1): ``SSHClient`` asks for the first known key type only, looks at the first of its stores that
knows the host, and its policies rewrite the user's file. Nothing of it is used here; upstream is fixed when ``SSHClient``
verifies a host certificate and appends to known_hosts.

The decisions are those of OpenSSH's sshconnect.c, check_host_key(), in its order: revoked files first; a certificate by its
authority, and if that does not do, the plain key within it, where HostKeyAlgorithms allows one; ``[host]:port`` first, then, for
reading only, the host without its port. If other keys are known, the host is "changed", for any types of keys. Blocks only for
files and KnownHostsCommand.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.flags.ssh.values.jump import Jump, ProxyJump
from pmitogen.transport.connection_warnings import ConnectionWarning, Severity
from pmitogen.transport.errors import HostKeyMismatch
from pmitogen.transport.hostkeys import known_hosts, known_hosts_sources
from pmitogen.transport.hostkeys.known_hosts_sources import KnownHostsSources
from pmitogen.transport.keys import certificate, public_key
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.util.patterns import ascii_lower

if TYPE_CHECKING:
    import paramiko

Confirm = Callable[[str], bool]
_EAVESDROPPING = "someone could be eavesdropping (man-in-the-middle attack)"
_UNRECORDABLE = frozenset("@?*#[]|'\"\\!, \t\n")  # in a host name: would be read as something else in known_hosts


class HostKeyDecision(NamedTuple):
    """The decision to accept the server's host key.

    *status* is ``known``, ``certificate``, ``added`` (new, now written down), ``new`` (accepted, but written nowhere), ``local``
    (NoHostAuthenticationForLocalhost) or ``unsafe``: the key is changed or revoked and StrictHostKeyChecking is ``no``. Then the
    session must be made with :meth:`restrict`'s settings. *location* is the deciding ``file:line``.
    """

    status: str
    location: str | None = None
    warnings: tuple[ConnectionWarning, ...] = ()

    @property
    def unsafe(self) -> bool:
        """True if another machine may be at the other end: send it no password and forward no agent."""
        return self.status == "unsafe"

    def restrict(self, settings: Settings) -> Settings:
        """Return *settings* without password, keyboard-interactive and agent forwarding if the host key is not to be trusted."""
        if not self.unsafe:
            return settings
        return settings._replace(passwordauthentication=False, kbdinteractiveauthentication=False, forwardagent=False)


def check_host_key(
    settings: Settings, key: paramiko.PKey | tuple[str, bytes], address: str, *, confirm: Confirm | None = None
) -> HostKeyDecision:
    """Decide whether to trust the host key that the server proved to have.

    :param key: Paramiko's key object, or (type name, blob).
    :param address: the peer's IP address; "" behind a proxy.
    :param confirm: called on this thread with a question for the user where StrictHostKeyChecking is ``ask``; None: the user
        cannot be asked, and ``ask`` means ``yes``.

    Adds a new key to the first UserKnownHostsFile if the settings say so. Raises :class:`ConnectError` (stage ``hostkey``).
    Blocks for files and KnownHostsCommand.
    """
    blob = key[1] if isinstance(key, tuple) else key_blob(key)
    return _HostKeyCheck(settings, blob, address, confirm).decide()


def key_blob(key: paramiko.PKey) -> bytes:
    """Return the whole blob of Paramiko's key object, including the certificate if the server sent one."""
    public = getattr(key, "public_blob", None)
    return bytes(public.key_blob) if public is not None else key.asbytes()


class _HostKeyCheck:
    """One decision, with the state that its steps and messages need."""

    def __init__(self, settings: Settings, blob: bytes, address: str, confirm: Confirm | None) -> None:
        self.settings = settings
        self.blob = blob
        self.plain = blob
        self.address = address
        self.confirm = confirm
        self.strict = "no" if settings.stricthostkeychecking == "off" else settings.stricthostkeychecking
        self.name = known_hosts_sources.host_name(settings)
        self.store = KnownHostsSources(settings, address)
        self.certificate_problem: str | None = None
        self.certificate: certificate.Certificate | None = None

    # -- decisions

    def decide(self) -> HostKeyDecision:
        if self._skip_for_localhost():
            return HostKeyDecision("local")
        try:
            self._read_key()
            self._check_size()
        except DecodeError as error:
            raise self._refuse(f"invalid key from the server: {error}") from error
        if location := known_hosts_sources.revoked_by(self.settings.revokedhostkeys, self.plain, self.certificate, self._refuse):
            raise self._refuse(f"{self.describe_key()} is revoked by {location}; generate a new host key on the server")
        lines = self.store.lines(self.name, self.blob)
        if revoked := self._revoked(lines):
            return self._changed_or_revoked(revoked, "is marked @revoked in", "generate a new host key on the server")
        if self.certificate is not None:
            decision = self._by_authority(lines)
            if decision is not None:
                return decision
            self._check_plain_is_allowed()
        return self._plain_key([line for line in lines if line.marker == known_hosts.NO_MARKER])

    def _by_authority(self, lines: list[known_hosts.KnownHostsLine]) -> HostKeyDecision | None:
        """Return the decision if the certificate is sufficient; None: its plain key has to be known.

        As for plain keys, the lines of the host without a port decide where those of the port do not.
        """
        line = self._authority_line(lines)
        if line is None:
            fallback = self.store.lines_without_port()
            if revoked := self._revoked(fallback):
                if self.strict == "no":
                    return self._changed_or_revoked(revoked, "is marked @revoked in", "generate a new host key on the server")
                self.certificate_problem = f"it or its authority is marked @revoked in {revoked.location}"
                return None
            line = self._authority_line(fallback)
        if line is None:
            self.certificate_problem = f"no @cert-authority line trusts its authority {self._authority()} for {self.name}"
            return None
        assert self.certificate is not None
        host = ascii_lower(self.settings.hostkeyalias or self.settings.hostname)
        self.certificate_problem = certificate.host_problem(self.certificate, host, self.settings.casignaturealgorithms)
        return None if self.certificate_problem else HostKeyDecision("certificate", line.location)

    def _authority_line(self, lines: list[known_hosts.KnownHostsLine]) -> known_hosts.KnownHostsLine | None:
        assert self.certificate is not None
        authority = self.certificate.authority_blob
        return next((line for line in lines if line.marker == known_hosts.AUTHORITY and line.is_key(authority)), None)

    def _check_plain_is_allowed(self) -> None:
        """Refuse a key without certificate that HostKeyAlgorithms would not have let the server show."""
        assert self.certificate is not None
        allowed = self.settings.hostkeyalgorithms
        names = public_key.algorithms_of(public_key.blob_type(self.plain))
        if allowed and not any(name in allowed for name in names):
            raise self._refuse(f"{self._certificate_refused()}, and HostKeyAlgorithms does not allow a plain {names[0]} key")

    def _plain_key(self, lines: list[known_hosts.KnownHostsLine]) -> HostKeyDecision:
        same = next((line for line in lines if line.blob == self.plain), None)
        if same:
            return self._check_address(same.location)
        if lines:
            return self._changed_or_revoked(lines[0], "does not match", self._how_to_replace(lines[0]))
        fallback = self.store.lines_without_port()
        if revoked := self._revoked(fallback):  # stricter than ssh, which would take the key as new under accept-new
            return self._changed_or_revoked(revoked, "is marked @revoked in", "generate a new host key on the server")
        same = next((line for line in fallback if line.marker == known_hosts.NO_MARKER and line.blob == self.plain), None)
        return HostKeyDecision("known", same.location) if same else self._unknown()

    def _unknown(self) -> HostKeyDecision:
        if self.strict == "yes" or (self.strict == "ask" and self.confirm is None):
            raise self._refuse(self._unknown_text() + self._how_to_add())
        if self.strict == "ask" and self.confirm is not None and not self.confirm(self._unknown_text()):
            raise self._refuse(f"{self.describe_key()} is unknown and was not accepted")
        if _UNRECORDABLE & set(self.settings.hostname):
            raise self._refuse(
                f"{self._unknown_text()} It cannot be added: the host name has characters that are not allowed in known_hosts"
            )
        names = [self.name]
        if self.store.address_name and not self.store.lines(self.store.address_name, self.plain):
            names.append(self.store.address_name)
        return self._record(names, f"Permanently added '{','.join(names)}' ({self._key_name()}) to the list of known hosts.")

    def _record(self, names: list[str], text: str) -> HostKeyDecision:
        """Add the key to known_hosts. *text*: tells the user that it was added, in ssh's words."""
        target = next(iter(self.settings.userknownhostsfile), "none")
        if target == "none":
            return HostKeyDecision("new")
        try:
            location = known_hosts_sources.append(target, names, self.plain, hashed=self.settings.hashknownhosts)
        except OSError as error:
            problem = f"{self._where()}: host key {self.describe_key()} accepted, but not written to {target}: {error.strerror}"
            return HostKeyDecision("new", warnings=(self._warning("unrecorded", problem, self._severity_of_new(target)),))
        return HostKeyDecision("added", location, (self._warning("added", text, self._severity_of_new(target)),))

    def _severity_of_new(self, target: str) -> Severity:
        """Return the severity of a warning about a new key: it is expected where the user wants no checks or no record."""
        return Severity.NOTICE if self.strict == "no" or target == os.devnull else Severity.WARNING

    # -- the steps

    def _skip_for_localhost(self) -> bool:
        wanted = self.settings.nohostauthenticationforlocalhost and not self.settings.hostkeyalias
        return wanted and known_hosts_sources.is_local(self.address)

    def _read_key(self) -> None:
        if not public_key.is_certificate(public_key.blob_type(self.blob)):
            return
        self.certificate = certificate.parse(self.blob)
        self.plain = self.certificate.plain_blob

    def _check_size(self) -> None:
        bits = public_key.rsa_bits(self.plain)
        if bits is not None and bits < self.settings.requiredrsasize:
            wanted = self.settings.requiredrsasize
            raise self._refuse(
                f"invalid RSA key length: {bits} bits, but RequiredRSASize is {wanted}; generate a longer key on the server"
            )

    def _blobs(self) -> list[bytes]:
        """Return the key, and the authority that vouches for it: a revocation may name either."""
        return [self.plain, *([self.certificate.authority_blob] if self.certificate else [])]

    def _revoked(self, lines: list[known_hosts.KnownHostsLine]) -> known_hosts.KnownHostsLine | None:
        revoked = [line for line in lines if line.marker == known_hosts.REVOKED]
        return next((line for line in revoked if any(line.is_key(blob) for blob in self._blobs())), None)

    def _check_address(self, location: str) -> HostKeyDecision:
        """CheckHostIP: the address must not be known with another key, and is written down where it is new."""
        name = self.store.address_name if self.certificate is None else None
        lines = [line for line in self.store.lines(name, self.plain) if line.marker == known_hosts.NO_MARKER] if name else []
        if not name or any(line.blob == self.plain for line in lines):
            return HostKeyDecision("known", location)
        if not lines:
            text = f"Permanently added the {self._key_name()} host key for IP address '{name}' to the list of known hosts."
            return self._record([name], text)._replace(status="known", location=location)
        other = f"{self.address} has another key in {lines[0].location}"
        text = f"{self.describe_key()} is known for {self.name} ({location}), but {other}"
        confirmed = self.strict == "ask" and self.confirm is not None and self.confirm(text + ".")
        if self.strict != "no" and not confirmed:
            raise self._refuse(f"{text}; remove that line, or use CheckHostIP=no")
        return HostKeyDecision("known", location, (self._warning("address", f"{self._where()}: {text}"),))

    def _changed_or_revoked(self, line: known_hosts.KnownHostsLine, state: str, remedy: str) -> HostKeyDecision:
        text = f"{self.describe_key()} {state} {line.location}"
        if self.strict != "no":
            refusal = self._refuse(f"{text}: {_EAVESDROPPING}; {remedy}{self._certificate_text()}")
            key_type = public_key.display_name(line.key_type)
            raise HostKeyMismatch(refusal.message, line.marker == known_hosts.REVOKED, key_type, line.location)
        settings = self.settings
        limits = settings.passwordauthentication or settings.kbdinteractiveauthentication or settings.forwardagent
        if limits and settings.exitonforwardfailure:
            raise self._refuse(
                f"{text}: {_EAVESDROPPING}; StrictHostKeyChecking=no is not sufficient for a jump host, or where "
                f"ExitOnForwardFailure is yes; {remedy}"
            )
        limited = "under StrictHostKeyChecking=no the session has no password login and no agent forwarding"
        warning = self._warning("changed", f"{self._where()}: {text}; {limited}", Severity.ERROR)
        return HostKeyDecision("unsafe", line.location, (warning,))

    # -- messages

    def describe_key(self) -> str:
        """Return a description of the plain key in ssh's format."""
        return f"{self._key_name()} {public_key.fingerprint(self.plain, self.settings.fingerprinthash)}"

    def _key_name(self) -> str:
        return public_key.display_name(public_key.blob_type(self.plain))

    def _warning(self, kind: str, text: str, severity: Severity = Severity.WARNING) -> ConnectionWarning:
        return ConnectionWarning(f"{self.settings.hostname} port {self.settings.port}", kind, severity, text)

    def _where(self) -> str:
        """Return the host's name in warnings. Several hosts may share one HostKeyAlias."""
        settings = self.settings
        if not settings.hostkeyalias:
            return self.name
        return f"{settings.hostname} port {settings.port} (HostKeyAlias {settings.hostkeyalias})"

    def _authority(self) -> str:
        assert self.certificate is not None
        return certificate.authority_fingerprint(self.certificate, self.settings.fingerprinthash)

    def _refuse(self, text: str) -> ConnectError:
        host = f"{self.settings.user}@{self.settings.hostname} port {self.settings.port}"
        if self.settings.hostkeyalias:
            host += f" (HostKeyAlias {self.settings.hostkeyalias})"
        return ConnectError(f"{host}: host key: {text}", "hostkey")

    def _certificate_text(self) -> str:
        if self.certificate is None or self.certificate_problem is None:
            return ""
        return f"; its host certificate {self.certificate.describe()} was refused: {self.certificate_problem}"

    def _certificate_refused(self) -> str:
        assert self.certificate is not None
        return f"the host certificate {self.certificate.describe()} was refused: {self.certificate_problem}"

    def _unknown_text(self) -> str:
        looked = self.store.searched_files() or "no known_hosts file"
        if self.certificate is not None:
            return f"{self._certificate_refused()}; its key {self.describe_key()} is not in {looked}."
        return f"{self.describe_key()} of {self.name} is not in {looked}."

    def _how_to_add(self) -> str:
        return f" Check the fingerprint and add the key ({self._trust()}), or use StrictHostKeyChecking=accept-new"

    def _how_to_replace(self, line: known_hosts.KnownHostsLine) -> str:
        remove = known_hosts.removal(line, self.name)
        return f"if the server was reinstalled, remove that line ({remove}) and add the new key ({self._trust()})"

    def _trust(self) -> str:
        """Return the command that adds the key, with the options that make it use the same files."""
        settings = self.settings
        file = next(iter(settings.userknownhostsfile), "none")
        home = LocalHost.detect(settings.caller).home
        argv = ["pmitogen", "trust"]
        argv += _jump_arguments(settings.proxyjump)
        argv += ["-p", str(settings.port)] if settings.port != 22 else []
        argv += ["-o", f"HostKeyAlias={settings.hostkeyalias}"] if settings.hostkeyalias else []
        argv += ["-o", f"UserKnownHostsFile={file}"] if file != f"{home}/.ssh/known_hosts" else []
        return shlex.join([*argv, settings.originalhost])


def _jump_arguments(hops: tuple[JumpHop, ...]) -> list[str]:
    """Return the arguments that lead through the same jump hosts; none for a ProxyCommand with arguments of its own."""
    arguments = list(hops[0].argv) if hops else []
    config = arguments[:2] if arguments[:1] == ["-F"] else []
    if not hops or set(arguments[len(config) :]) - {"-v"}:
        return []
    written = (ProxyJump().render(Jump(hop.host, hop.user, hop.port)) for hop in hops)
    return [*config, "-J", ",".join(written)]
