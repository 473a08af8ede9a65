"""The arguments of ``connect``, as an option set of the hub."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.arguments import Argument
from pmitogen.api.core import Core
from pmitogen.api.options import ConnectOptions
from pmitogen.errors import ConnectError, UsageError
from pmitogen.transport.auth.credentials import Prompt as Ask
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.protocol.requests import ConnectionOptions

JUMP_FIELDS = ("password", "private_key", "passphrase", "otp")


class JumpCredentials(TypedDict, total=False):
    """Credentials for one jump host."""

    password: str
    private_key: str
    passphrase: str
    otp: str


class ConnectArguments(TypedDict, total=False):
    """Keyword arguments of ``connect``; :meth:`pmitogen.Hub.connect` says what each means."""

    options: ConnectOptions | None
    ssh_args: Sequence[Argument]
    password: str | bytes | None
    private_key: str | bytes | None
    passphrase: str | bytes | None
    otp: str | bytes | None
    jump_credentials: Mapping[str, JumpCredentials] | None
    timeout: float | None
    python: str | os.PathLike[str] | None
    host_key_checking: bool
    ask: Ask | None


_NAMES = ConnectArguments.__annotations__.keys()


def option_set(target: str, given: ConnectArguments) -> tuple[ConnectionOptions, Ask | None]:
    """Return the hub's options for *target*, and the function that asks the user. Raises TypeError, UsageError."""
    for name in given:
        if name not in _NAMES:
            raise TypeError(f"connect: unexpected keyword argument {name!r}; use one of {', '.join(_NAMES)}")
    chosen = given.get("options")
    if chosen is not None and not isinstance(chosen, ConnectOptions):
        arguments.wrong("connect: options", "ConnectOptions or None", chosen)
    base = chosen or ConnectOptions()
    ask = given.get("ask")
    arguments.function(ask, "connect: ask")
    timeout = arguments.time_limit(given.get("timeout"), "connect: timeout")
    options: dict[str, object] = {
        "host": arguments.text(target, "connect: target"),
        "host_key_checking": arguments.flag(given.get("host_key_checking", True), "connect: host_key_checking"),
    }
    more: dict[str, object] = {
        "ssh_extra_args": shlex.join([*arguments.strings(given.get("ssh_args", ()), "connect: ssh_args"), *base.ssh_args()]),
        "ssh_extra_args_from": "ssh_args",
        "forwards": True,
        "password": arguments.secret(given.get("password"), "connect: password") or base.password,
        "private_key": arguments.secret(given.get("private_key"), "connect: private_key") or base.private_key,
        "private_key_passphrase": arguments.secret(given.get("passphrase"), "connect: passphrase") or base.passphrase,
        "otp": arguments.secret(given.get("otp"), "connect: otp") or base.otp,
        "jump_credentials": {
            **{jump.address: jump.credentials for jump in base.jumps if jump.credentials},
            **(_jump_credentials(given.get("jump_credentials")) or {}),
        },
        "reconnection_retries": base.retries,
        "boot_python": _python(given.get("python")),
        "interactive": ask is not None,
        "timeout": timeout and math.ceil(timeout),
        "login_timeout": timeout,
    }
    options.update((name, value) for name, value in more.items() if value)
    return cast("ConnectionOptions", options), ask and _checked(ask)


def _checked(ask: Ask) -> Ask:
    """Wrap the caller's function: if it fails or returns a wrong type, the login ends with a line that says so."""

    def asked(prompt: str, echo: bool) -> str | None:
        try:
            answer: object = ask(prompt, echo)
        except BaseException as exc:  # SystemExit, too: it would end the hub's thread, and the login would never end
            raise ConnectError(f"connect: ask: {type(exc).__name__}: {exc}", "local") from exc
        if answer is None or isinstance(answer, str):
            return answer
        if isinstance(answer, Coroutine):
            answer.close()
        raise ConnectError(f"connect: ask: expected it to return str or None, not {type(answer).__name__}", "local")

    return asked


def accounts(hub: object, core: Core, targets: Iterable[str], given: ConnectArguments) -> list[Account]:
    """Return the login accounts of many targets, in their order. *hub*: their owner. Raises TypeError, UsageError."""
    if isinstance(targets, (str, bytes)) or not isinstance(targets, Iterable):
        arguments.wrong("connect_all: targets", "an iterable of str", targets)
    caller = CallerEnvironment.current()
    made = []
    for target in targets:
        options, ask = option_set(target, given)
        made.append(Account(core, options, caller, None, ask, hub))
    return made


def _python(given: str | os.PathLike[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [arguments.text(os.fspath(given) if isinstance(given, os.PathLike) else given, "connect: python")]


def _jump_credentials(given: Mapping[str, JumpCredentials] | None) -> dict[str, dict[str, str]] | None:
    if given is None:
        return None
    label = "connect: jump_credentials"
    if not isinstance(given, Mapping):
        arguments.wrong(label, "a mapping of jump hosts to mappings", given)
    credentials: dict[str, dict[str, str]] = {}
    for host, fields in given.items():
        arguments.text(host, f"{label}: a host")
        if not isinstance(fields, Mapping):
            arguments.wrong(f"{label}: {host}", "a mapping", fields)
        credentials[host] = {}
        for name, value in cast("Mapping[Any, Any]", fields).items():
            if name not in JUMP_FIELDS:
                raise UsageError(f"{label}: {host}: unknown {name!r}; use one of {', '.join(JUMP_FIELDS)}")
            credentials[host][name] = arguments.secret(value, f"{label}: {host}: {name}") or ""
    return credentials
