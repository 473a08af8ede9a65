"""Authenticate: choose the next method and credential after each answer of the server.

Missing upstream (Paramiko 5.1): ``AuthStrategy`` mistakes partial success for success, and ``SSHClient.connect`` supports neither
PreferredAuthentications nor several factors in a given order. Upstream is fixed when ``SSHClient`` can log in to a server with
``AuthenticationMethods publickey,password``.

The order saves round trips. The first request is sent together with the service request. No "none" request is sent to learn the
methods, because every refusal lists them. The client signs with a file's key at once, because a refused probe counts as much as
a refused signature; keys that need a confirmation or a touch, and those of a full agent, are probed first. After a refusal or a
partial success the choice starts again at the top of PreferredAuthentications, among the methods that the server still accepts.

OpenSSH's server closes the connection at the sixth refusal (MaxAuthTries), so the last attempt is reserved for a password, if
there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from pmitogen.errors import AuthenticationError, ConnectError
from pmitogen.flags.ssh.settings import METHODS, Settings
from pmitogen.transport.auth import gssapi_with_mic
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.auth.gssapi_with_mic import GSSAPIError
from pmitogen.transport.auth.identities import Candidate, Identities
from pmitogen.transport.auth.keyboard_interactive import PromptAnswerer, info_request
from pmitogen.transport.auth.report import Attempt, AuthReport, Cause, Outcome, refusal, with_banner
from pmitogen.transport.keys import certificate, public_key
from pmitogen.transport.keys.key_file import KeyCache
from pmitogen.transport.keys.pkcs11_token import TokenError
from pmitogen.transport.keys.ssh_agent_client import AgentError
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.transport.login_limits import answer_timeout
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.transport.paramiko_ext.userauth import (
    FAILURE,
    HOST_BOUND,
    INFO_REQUEST,
    PK_OK,
    REQUEST,
    SUCCESS,
    ConnectionClosed,
    UserauthClient,
)

MAX_AUTH_TRIES = 6  # sshd's default; the server does not send its own
MAX_REQUEUED = 20  # keys offered again, after a refusal for another reason than the key
MAX_METHODS = 32  # names in one answer of the server; more are ignored
MAX_ROUNDS = 32  # rounds of keyboard-interactive in one attempt


def authenticate(
    transport: ClientTransport,
    settings: Settings,
    credentials: Credentials,
    deadline: float,
    *,
    key_cache: KeyCache | None = None,
    on_banner: Callable[[bytes], None] | None = None,
) -> AuthReport:
    """Log in on *transport*, after its key exchange and the check of its host key. Blocks.

    ``credentials.prompt`` is called on this thread, except with BatchMode.

    :param deadline: the time limit, in ``time.monotonic()`` seconds.
    :param key_cache: shares decrypted keys with other logins; None: the login decrypts its own.
    :param on_banner: called on this thread with each text of the server for the user, not escaped; None: it is not shown.

    Raises :class:`AuthenticationError` if the server refused everything or there was no credential to offer, and ConnectError
    (stage ``auth``) if the connection ended or the time ran out, both with the server's banner. The transport is left open.
    """
    authenticator = _Authenticator(transport, settings, credentials, deadline, key_cache)
    authenticator.userauth.on_banner = on_banner
    try:
        return authenticator.run()
    except ConnectionClosed:
        raise with_banner(authenticator.connection_closed(), authenticator.userauth.last_banner) from None
    except DecodeError as error:
        invalid = ConnectError(f"{settings.endpoint}: authentication failed: invalid answer from the server: {error}", "auth")
        raise with_banner(invalid, authenticator.userauth.last_banner) from error
    except ConnectError as error:
        raise with_banner(error, authenticator.userauth.last_banner) from None
    finally:
        authenticator.identities.close()


class _Authenticator:
    """State of one login. A method's function makes one attempt; it returns False if it has no further credential."""

    def __init__(
        self,
        transport: ClientTransport,
        settings: Settings,
        credentials: Credentials,
        deadline: float,
        key_cache: KeyCache | None,
    ) -> None:
        self.transport = transport
        self.settings = settings
        self.credentials = credentials
        self.interactive = credentials.prompt is not None and not settings.batchmode
        self.userauth = UserauthClient(transport, settings.user, settings.endpoint, deadline, answer_timeout(settings))
        self.attempts: list[Attempt] = []
        self.succeeded: list[str] = []
        self.allowed: tuple[str, ...] | None = None  # from the server's last answer; None: no answer yet
        self.refusals = 0
        self.key: str | None = None
        self.binding = transport.session_binding()
        self.identities = Identities(
            settings,
            credentials,
            on_skip=lambda subject, reason, cause: self._skip("publickey", subject, reason, cause),
            prompt=self._ask_passphrase if self.interactive else None,
            binding=self.binding,
            key_cache=key_cache,
            remaining=self.userauth.remaining,
        )
        self._candidates = self.identities.candidates()
        self._requeued: list[Candidate] = []  # to offer once more: refused for another reason than the key
        self._requeue_count = 0
        self._pending: tuple[str, str] | None = None  # method and subject of the unanswered request
        self._passwords_left = settings.numberofpasswordprompts
        self._password: Secret | None = credentials.password
        self._kbdint_left = settings.numberofpasswordprompts
        self._has_tried_gssapi = False
        self._methods = {
            gssapi_with_mic.METHOD: (settings.gssapiauthentication, self._gssapi_with_mic),
            "publickey": (settings.pubkeyauthentication, self._publickey),
            "keyboard-interactive": (settings.kbdinteractiveauthentication, self._keyboard_interactive),
            "password": (settings.passwordauthentication, self._password_once),
        }
        self._open = [name for name in _method_order(settings, credentials) if self._methods.get(name, (False,))[0]]

    def run(self) -> AuthReport:
        if not any(name in self._methods for name in self.settings.preferredauthentications):
            named = ",".join(self.settings.preferredauthentications)
            known = ", ".join(self._methods)
            raise AuthenticationError(
                f"{self.settings.endpoint}: PreferredAuthentications {named}: no supported method; use some of {known}"
            )
        while not self.userauth.authenticated:
            name = next((name for name in self._open if self.allowed is None or name in self.allowed), None)
            if name is None:
                self._try_none()
            elif not self._methods[name][1]():
                self._open.remove(name)
        return AuthReport(
            tuple(self.succeeded), tuple(self.attempts), self.userauth.round_trips, self.key, self.userauth.server_banner
        )

    def _try_none(self) -> None:
        """Try "none" if nothing was tried: it may succeed, and a refusal lists the methods for the message. Otherwise fail."""
        if self.allowed is not None:
            raise self._refusal()
        self._send("none", "")
        self._record_reply("none", "", *self.userauth.wait(), counts=False)

    # -- publickey

    def _publickey(self) -> bool:
        candidate = self._next_candidate()
        if candidate is None:
            return False
        self.userauth.handle_arrived()  # only now, as the key was read meanwhile
        algorithm = self._algorithm(candidate)
        if algorithm is None:
            return True
        if candidate.probe and not self._probe(candidate, algorithm):
            return True
        signed = self._signed_request(candidate, algorithm)
        if signed is None:
            return True
        method, fields = signed
        self._send("publickey", candidate.describe(), fields, wire_method=method)
        if self._record_reply(
            "publickey", candidate.describe(), *self.userauth.wait(), reason=self._certificate_advice(candidate)
        ):
            self.key = candidate.describe()
        elif self._was_premature(candidate, algorithm):
            self._requeue(candidate)
        return True

    def _requeue(self, candidate: Candidate) -> None:
        """Offer a key once more later, because the refusal had another reason. At most MAX_REQUEUED times."""
        if self._requeue_count < MAX_REQUEUED:
            self._requeue_count += 1
            self._requeued.append(candidate)

    def _signed_request(self, candidate: Candidate, algorithm: str) -> tuple[str, bytes] | None:
        """Return the method's name on the wire and its fields with the signature; None if there is no signature.

        A key with destination constraints in an agent that was forwarded to this machine needs a host-bound signature. The first
        request may be made before the server announces support for these; after a probe the announcement has arrived.
        """
        try:
            return self._signed(candidate, algorithm)
        except (AgentError, TokenError) as error:
            problem: Exception = error
        if candidate.agent and not candidate.probe and not self._binds_host():
            if not self._probe(candidate, algorithm):
                return None
            if self._binds_host():
                try:
                    return self._signed(candidate, algorithm)
                except AgentError as error:
                    problem = error
        self._skip("publickey", candidate.describe(), str(problem))
        return None

    def _signed(self, candidate: Candidate, algorithm: str) -> tuple[str, bytes]:
        method, fields = "publickey", b"\1" + encode_string(algorithm) + encode_string(candidate.blob)
        if self._binds_host():
            assert self.binding is not None
            method, fields = HOST_BOUND, fields + encode_string(self.binding.host_key)
        data = encode_string(self.userauth.session_id()) + bytes([REQUEST]) + self.userauth.body(method, fields)
        return method, fields + encode_string(candidate.sign(data, algorithm, self.userauth.remaining()))

    def _binds_host(self) -> bool:
        """Return True if signatures include the server's host key: the server supports it, and it is not switched off."""
        return self.binding is not None and self.settings.pubkeyauthentication_hostbound and self.userauth.binds_host

    def _was_premature(self, candidate: Candidate, algorithm: str) -> bool:
        """Return True if the refusal does not concern the key: the method is not due, or the algorithms became known."""
        return "publickey" not in (self.allowed or ()) or self._algorithm(candidate) != algorithm

    def _next_candidate(self) -> Candidate | None:
        if self.refusals >= MAX_AUTH_TRIES - 1 and self._can_answer():
            if next(self._candidates, None) is not None:
                reason = "one more refusal would close the connection before the password; set IdentitiesOnly=yes"
                self._skip("publickey", "further keys", reason)
            return None
        return self._requeued.pop(0) if self._requeued else next(self._candidates, None)

    def _can_answer(self) -> bool:
        """Return True if a password can still be tried, so that one attempt is reserved for it."""
        return self._has_answers() and any(
            name != "publickey" and (self.allowed is None or name in self.allowed) for name in self._open
        )

    def _algorithm(self, candidate: Candidate) -> str | None:
        """Return the first signature algorithm that PubkeyAcceptedAlgorithms and, for RSA, the server allow."""
        names = public_key.algorithms_of(candidate.name)
        accepted = self.settings.pubkeyacceptedalgorithms
        allowed = [name for name in accepted if name in names] if accepted else list(names)
        if not allowed:
            self._skip("publickey", candidate.describe(), f"PubkeyAcceptedAlgorithms leaves no algorithm for {candidate.name}")
            return None
        server_algorithms = self.userauth.server_algorithms()
        usable = [name for name in allowed if public_key.plain_name(name) in server_algorithms]
        return usable[0] if usable and len(allowed) > 1 else allowed[0]

    def _probe(self, candidate: Candidate, algorithm: str) -> bool:
        """Return True if the server accepts this key for a signature (RFC 4252 section 7)."""
        self._send("publickey", candidate.describe(), b"\0" + encode_string(algorithm) + encode_string(candidate.blob))
        kind, reader = self.userauth.wait()
        if kind == PK_OK:
            return True
        self._record_reply("publickey", candidate.describe(), kind, reader, reason=self._certificate_advice(candidate))
        if self._was_premature(candidate, algorithm):
            self._requeue(candidate)
        return False

    def _certificate_advice(self, candidate: Candidate) -> str:
        """Return the likely reason for a refused certificate; the server sends none."""
        if candidate.certificate is None:
            return ""
        problem = certificate.user_problem(candidate.certificate, self.settings.user)
        authority = certificate.authority_fingerprint(candidate.certificate)
        return problem or f"its dates and principals are valid: it is revoked, or its authority {authority} is not trusted"

    def _ask_passphrase(self, prompt: str) -> str | None:
        return self.credentials.prompt(prompt, False) if self.credentials.prompt else None

    # -- gssapi-with-mic

    def _gssapi_with_mic(self) -> bool:
        if self._has_tried_gssapi:
            return False
        self._has_tried_gssapi = True
        try:
            context = gssapi_with_mic.SecurityContext(self.settings)
            self._pending = (gssapi_with_mic.METHOD, "")
            kind, reader = gssapi_with_mic.exchange(self.userauth, context)
        except GSSAPIError as error:
            self._pending = None
            self._skip(gssapi_with_mic.METHOD, "", str(error))
            return False
        accepted = self._record_reply(gssapi_with_mic.METHOD, "", kind, reader)
        self._has_tried_gssapi = accepted or gssapi_with_mic.METHOD in (self.allowed or ())  # else it was not due
        return accepted or not self._has_tried_gssapi

    # -- password and keyboard-interactive

    def _password_once(self) -> bool:
        if self._password is None and self.interactive and self._passwords_left > 0 and self.credentials.prompt:
            answer = self.credentials.prompt(f"{self.settings.user}@{self.settings.hostname}'s password: ", False)
            self._password = None if answer is None else Secret(answer)
        if self._password is None or self._passwords_left <= 0:
            return False
        self._send("password", "", b"\0" + encode_string(self._password.reveal()))
        kind, reader = self.userauth.wait()
        if kind == INFO_REQUEST:  # the same number is PASSWD_CHANGEREQ here
            self._skip("password", "", "password expired: log in interactively and change it")
            return False
        if self._record_reply("password", "", kind, reader) or "password" in (self.allowed or ()):
            self._passwords_left -= 1
            self._password = None
        return True  # otherwise the method was not due; the password stays for a later attempt

    def _keyboard_interactive(self) -> bool:
        if self._kbdint_left <= 0 or not self._has_answers():
            return False
        answerer = PromptAnswerer(
            self.credentials, self.interactive, f"{self.settings.user}@{self.settings.hostkeyalias or self.settings.hostname}"
        )
        self._send("keyboard-interactive", "", encode_string("") + encode_string(",".join(self.settings.kbdinteractivedevices)))
        kind, reader = self.userauth.wait()
        rounds = 0
        while kind == INFO_REQUEST:
            rounds += 1
            if rounds > MAX_ROUNDS:
                raise DecodeError(f"more than {MAX_ROUNDS} rounds of prompts")
            answers = answerer.answer(*info_request(reader))
            if answers is None:
                self._skip("keyboard-interactive", "", answerer.reason)
                return False
            self.userauth.respond(answers)
            kind, reader = self.userauth.wait()
        done = self._record_reply(
            "keyboard-interactive", "", kind, reader, reason="" if answerer.answered else "the server sent no prompts"
        )
        if not done and "keyboard-interactive" not in (self.allowed or ()):
            return True  # it may be due after another factor
        self._kbdint_left -= 1
        return done or self.interactive  # the same answers would be refused again; only a user can give others

    def _has_answers(self) -> bool:
        return bool(self.credentials.password or self.credentials.otp or self.interactive)

    # -- outcomes

    def _record_reply(
        self, method: str, subject: str, kind: int, reader: PacketReader, *, reason: str = "", counts: bool = True
    ) -> bool:
        """Record the server's answer; return True if it accepted the attempt, wholly or as one factor."""
        self._pending = None
        if kind == SUCCESS:
            self.attempts.append(Attempt(method, subject, Outcome.ACCEPTED))
            self.succeeded.append(method)
            return True
        if kind != FAILURE:
            raise DecodeError(f"message {kind} to a {method} request")
        self.allowed = tuple(name for name in reader.text().split(",", MAX_METHODS)[:MAX_METHODS] if name)
        if reader.take(1) != b"\0":
            self.attempts.append(Attempt(method, subject, Outcome.PARTIAL))
            self.succeeded.append(method)
            return True
        self.refusals += counts
        if method != "none":
            reason = reason if method in self.allowed else "the server does not accept this method now"
            self.attempts.append(Attempt(method, subject, Outcome.REFUSED, reason))
        return False

    def _send(self, method: str, subject: str, fields: bytes = b"", *, wire_method: str = "") -> None:
        self._pending = (method, subject)
        self.userauth.request(wire_method or method, fields)

    def _skip(self, method: str, subject: str, reason: str, cause: Cause = Cause.OTHER) -> None:
        self.attempts.append(Attempt(method, subject, Outcome.SKIPPED, reason, cause))

    def connection_closed(self) -> ConnectError:
        """Return the error for a connection that ended during the login."""
        reason = self.transport.end_reason_for(self.transport.saved_exception)
        if self._pending:
            self.attempts.append(Attempt(*self._pending, Outcome.REFUSED, "the connection ended"))
        if self.refusals >= 2 or "Too many authentication failures" in reason:
            ended = f"the server closed the connection after {self.refusals + 1} refusals"
            return self._refusal(f"{ended}: set the right IdentityFile and IdentitiesOnly=yes")
        return ConnectError(f"{self.settings.endpoint}: authentication failed: the connection ended: {reason}", "auth")

    def _refusal(self, remedy: str | None = None) -> AuthenticationError:
        if remedy is None and self.userauth.explains_refusal:
            remedy = ""  # the server's text is more helpful
        return refusal(self.settings, self.attempts, self.allowed or (), remedy, self.credentials.withheld_from)


def _method_order(settings: Settings, credentials: Credentials) -> tuple[str, ...]:
    """Return PreferredAuthentications; in its default, move ``password`` first if there is only a password.

    keyboard-interactive with PAM takes three round trips instead of one, and sends no prompt that another credential could
    answer. Any other order, or a second factor, leaves the order as written.
    """
    order = settings.preferredauthentications
    if order[-3:] != METHODS or credentials.otp or credentials.prompt or not credentials.password:
        return order
    return tuple(sorted(order, key=("gssapi-with-mic", "publickey", "password", "keyboard-interactive").index))
