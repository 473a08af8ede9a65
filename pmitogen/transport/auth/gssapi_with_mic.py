"""Authenticate with a Kerberos ticket: the method gssapi-with-mic (RFC 4462 section 3).

The package gssapi (the extra ``pmitogen[kerberos]``) makes the tokens; this module carries them in userauth messages. Missing
upstream: Paramiko 5 has no GSSAPI, and that of Paramiko 4 (``auth_gssapi_with_mic``) wants its own handler of userauth messages.

The server's principal is ``host@`` GSSAPIServerIdentity, else the host's name. Credentials come from the caller's ticket cache
($KRB5CCNAME). They are delegated only with GSSAPIDelegateCredentials.
"""

from __future__ import annotations

from typing import Any

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.transport.paramiko_ext.userauth import (
    GSSAPI_EXCHANGE_COMPLETE,
    GSSAPI_MIC,
    GSSAPI_RESPONSE,
    GSSAPI_TOKEN,
    REQUEST,
    UserauthClient,
)
from pmitogen.util import extras
from pmitogen.util.peer_text import escape

METHOD = "gssapi-with-mic"
_MAX_TOKENS = 20  # of the server in one attempt; Kerberos needs one


class GSSAPIError(Exception):
    """There is no ticket, or the exchange of tokens fails. The message is for the user."""


class SecurityContext:
    """The client's half of a Kerberos security context with the server of *settings*. One thread. Raises GSSAPIError."""

    def __init__(self, settings: Settings) -> None:
        if not extras.is_installed("kerberos"):
            raise GSSAPIError(f"needs a further package: {extras.advice('kerberos')}")
        try:
            import gssapi
        except Exception as error:  # its library may be missing or broken
            raise GSSAPIError(f"the package gssapi cannot be used: {escape(str(error), 200)}") from error
        self._gssapi = gssapi
        self._context = self._attempt(lambda: _new_context(gssapi, settings))
        self.mechanism: bytes = _der(bytes(gssapi.MechType.kerberos.__bytes__()))

    def step(self, token: bytes | None) -> bytes | None:
        """Take the server's token, None at the start; return the next one for it, None if there is none. Asks the KDC."""
        answer: bytes | None = self._attempt(lambda: self._context.step(token))
        return answer

    @property
    def is_complete(self) -> bool:
        """True if no token of the server is awaited."""
        return bool(self._context.complete)

    def signature(self, data: bytes) -> bytes | None:
        """Return the message integrity code of *data*; None if the mechanism has none."""
        if self._gssapi.RequirementFlag.integrity not in self._context.actual_flags:
            return None
        return bytes(self._attempt(lambda: self._context.get_signature(data)))

    def _attempt(self, work: Any) -> Any:
        try:
            return work()
        except self._gssapi.exceptions.GSSError as error:
            raise GSSAPIError(escape(_reason(error), 300)) from None


def _new_context(gssapi: Any, settings: Settings) -> Any:
    flags = gssapi.RequirementFlag
    wanted = [flags.mutual_authentication, flags.integrity]
    if settings.gssapidelegatecredentials:
        wanted.append(flags.delegate_to_peer)
    kerberos = gssapi.MechType.kerberos
    service = f"host@{settings.gssapiserveridentity or settings.hostname}"
    client = settings.gssapiclientidentity
    cache = settings.caller.environ.get("KRB5CCNAME") if settings.caller else None
    credentials = gssapi.Credentials(
        name=gssapi.Name(client, gssapi.NameType.user) if client else None,
        mechs=[kerberos],
        usage="initiate",
        store={"ccache": cache} if cache else None,
    )
    name = gssapi.Name(service, gssapi.NameType.hostbased_service)
    return gssapi.SecurityContext(name=name, creds=credentials, mech=kerberos, flags=wanted, usage="initiate")


def _reason(error: Any) -> str:
    """Return the error text of the mechanism, which names the ticket or principal; without one, the text of GSSAPI."""
    for code, is_mechanism in ((error.min_code, False), (error.maj_code, True)):
        text = " ".join(error.get_all_statuses(code, is_mechanism)).strip()
        if text and code:
            return text
    return str(error)


def _der(identifier: bytes) -> bytes:
    """Return an object identifier with DER's tag and length."""
    return bytes([6, len(identifier)]) + identifier


def exchange(userauth: UserauthClient, context: SecurityContext) -> tuple[int, PacketReader]:
    """Run the exchange; return the server's answer to the last message. Blocks.

    Raises GSSAPIError if the context cannot be completed: the server then awaits another request. Otherwise as
    :meth:`UserauthClient.wait`.
    """
    token = context.step(None)
    userauth.request(METHOD, (1).to_bytes(4, "big") + encode_string(context.mechanism))
    kind, reader = userauth.wait()
    if kind != GSSAPI_RESPONSE:
        return kind, reader
    if reader.string() != context.mechanism:
        raise DecodeError("the server selects a mechanism that was not offered")
    for _ in range(_MAX_TOKENS):
        if token:
            userauth.send_gssapi(GSSAPI_TOKEN, encode_string(token), answered=not context.is_complete)
        if context.is_complete:
            return _finish(userauth, context)
        kind, reader = userauth.wait()
        if kind != GSSAPI_TOKEN:
            return kind, reader
        token = context.step(reader.string())
    raise DecodeError(f"more than {_MAX_TOKENS} GSSAPI tokens")


def _finish(userauth: UserauthClient, context: SecurityContext) -> tuple[int, PacketReader]:
    """Bind the context to this SSH session and this account (RFC 4462 section 3.5)."""
    signed = encode_string(userauth.session_id()) + bytes([REQUEST]) + userauth.body(METHOD, b"")
    signature = context.signature(signed)
    if signature is None:
        userauth.send_gssapi(GSSAPI_EXCHANGE_COMPLETE, b"", answered=True)
    else:
        userauth.send_gssapi(GSSAPI_MIC, encode_string(signature), answered=True)
    return userauth.wait()
