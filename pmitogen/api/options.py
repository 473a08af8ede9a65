"""Connection options as one immutable object, beside the arguments of ssh's command line."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pmitogen.api import arguments
from pmitogen.errors import UsageError

if TYPE_CHECKING:
    from pmitogen.flags.ssh.report.explain import Explanation

Path = str | os.PathLike[str]
HostKeyPolicy = Literal["yes", "accept-new", "no", "ask"]
POLICIES = ("yes", "accept-new", "no", "ask")
_NO_HOST = frozenset("@,/ \t\n")
USER_FILES = "user"  # the configuration files that ssh reads by itself


@dataclasses.dataclass(frozen=True)
class Jump:
    """A jump host and its credentials. No others are used for it; without any, keys only. Raises TypeError, UsageError.

    *keys* (files), *known_hosts* and *host_keys* are as in :class:`ConnectOptions`, whose own count for the target only, as with
    ``ssh -J``.
    """

    host: str
    user: str | None = None
    port: int | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    private_key: str | None = dataclasses.field(default=None, repr=False)
    passphrase: str | None = dataclasses.field(default=None, repr=False)
    otp: str | None = dataclasses.field(default=None, repr=False)
    keys: Sequence[Path] = ()
    known_hosts: Sequence[Path] = ()
    host_keys: HostKeyPolicy | None = None

    def __post_init__(self) -> None:
        host = arguments.text(self.host, "Jump: host")
        if host.count(":") == 1 or set(host) & _NO_HOST:
            raise UsageError(f"Jump: host: {host!r}: not a host name or address; user and port have parameters of their own")
        for name in ("user", "password", "private_key", "passphrase", "otp"):
            arguments.optional_text(getattr(self, name), f"Jump: {name}")
        if set(self.user or "") & set(",/ \t\n"):
            raise UsageError(f"Jump: user: {self.user!r}: not a user name")
        if self.port is not None:
            arguments.integer(self.port, "Jump: port", 1, 65535)
        _set_paths(self, "Jump", "keys", "known_hosts")
        _check_policy(self.host_keys, "Jump")

    @property
    def address(self) -> str:
        """``[user@]host[:port]``, as ``-J`` takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def ssh_args(self) -> list[str]:
        """The options as arguments of ssh's command line, without the secrets."""
        keywords = [("IdentityFile", _quote(path)) for path in self.keys]
        keywords += [("UserKnownHostsFile", " ".join(map(_quote, self.known_hosts)))] if self.known_hosts else []
        keywords += [("StrictHostKeyChecking", self.host_keys)] if self.host_keys is not None else []
        return [word for keyword, value in keywords for word in ("-o", f"{keyword}={value}")]

    @property
    def credentials(self) -> dict[str, str]:
        """The secrets that are set, by the name of their parameter."""
        names = ("password", "private_key", "passphrase", "otp")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class _Settings(dict[str, str]):
    """Keywords of ssh_config(5), immutable. A dict, so that it can be pickled, and copied by ``dataclasses.asdict``."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("ConnectOptions: settings cannot be changed; use dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Settings, (dict(self),)


@dataclasses.dataclass(frozen=True)
class ConnectOptions:
    """How to connect. For an option that is None, ssh's configuration files and defaults apply. Raises TypeError, UsageError.

    :param user: the account.
    :param port: the server's port.
    :param keys: files of private keys, tried in this order.
    :param certificates: files of user certificates.
    :param only_keys: True: offer these keys only, and no other keys of the agent (IdentitiesOnly).
    :param agent: False: use no agent; a path: its socket.
    :param forward_agent: let programs on the host use the agent.
    :param known_hosts: files of host keys, instead of the user's.
    :param host_keys: what to do with host keys that are not known (StrictHostKeyChecking).
    :param jumps: hosts on the way, the first one nearest.
    :param config: a configuration file to be read instead of the user's; None: no file at all.
    :param connect_timeout: seconds for the connection and the server's version.
    :param keepalive: seconds of silence after which the server is asked whether it is there (ServerAliveInterval).
    :param retries: how often a failed connection is tried again.
    :param compression: whether to compress.
    :param settings: any other keywords of ssh_config(5) with their values; LocalForward, RemoteForward and DynamicForward
        forward as long as the connection lasts.
    :param password: and *private_key* (a key's text), *passphrase*, *otp*: as for :meth:`pmitogen.Hub.connect`.
    """

    user: str | None = None
    port: int | None = None
    keys: Sequence[Path] = ()
    certificates: Sequence[Path] = ()
    only_keys: bool | None = None
    agent: bool | Path | None = None
    forward_agent: bool | None = None
    known_hosts: Sequence[Path] = ()
    host_keys: HostKeyPolicy | None = None
    jumps: Sequence[Jump] = ()
    config: Path | None = USER_FILES
    connect_timeout: int | None = None
    keepalive: int | None = None
    retries: int = 0
    compression: bool | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    password: str | None = dataclasses.field(default=None, repr=False)
    private_key: str | None = dataclasses.field(default=None, repr=False)
    passphrase: str | None = dataclasses.field(default=None, repr=False)
    otp: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        label = "ConnectOptions"
        for name in ("user", "password", "private_key", "passphrase", "otp"):
            arguments.optional_text(getattr(self, name), f"{label}: {name}")
        for name, minimum, maximum in (("port", 1, 65535), ("connect_timeout", 1, 1 << 30), ("keepalive", 0, 1 << 30)):
            if getattr(self, name) is not None:
                arguments.integer(getattr(self, name), f"{label}: {name}", minimum, maximum)
        arguments.integer(self.retries, f"{label}: retries", 0, 100)
        for name in ("only_keys", "forward_agent", "compression"):
            if getattr(self, name) is not None:
                arguments.flag(getattr(self, name), f"{label}: {name}")
        _set_paths(self, label, "keys", "certificates", "known_hosts")
        for jump in _items(self.jumps, f"{label}: jumps"):
            if not isinstance(jump, Jump):
                arguments.wrong(f"{label}: jumps", "a sequence of Jump", jump)
        object.__setattr__(self, "jumps", tuple(self.jumps))
        _check_policy(self.host_keys, label)
        if not isinstance(self.settings, Mapping):
            arguments.wrong(f"{label}: settings", "a mapping of str to str", self.settings)
        for keyword, value in self.settings.items():
            arguments.text(keyword, f"{label}: settings: a keyword")
            arguments.text(value, f"{label}: settings: {keyword}")
        object.__setattr__(self, "settings", _Settings(self.settings))
        self.ssh_args()  # checks the rest

    def ssh_args(self) -> list[str]:
        """Return the same options as arguments of ssh's command line, without the secrets."""
        config: list[str] = []
        if self.config is None:
            config = ["-F", "none"]
        elif self.config != USER_FILES:
            config = ["-F", _path(self.config, "ConnectOptions: config")]
        arguments_of_ssh = list(config)
        for keyword, value in self._keywords():
            arguments_of_ssh += ["-o", f"{keyword}={value}"]
        if any(jump.ssh_args for jump in self.jumps):
            arguments_of_ssh += ["-o", f"ProxyCommand={_proxy_command(self.jumps, config)}"]
        elif self.jumps:
            arguments_of_ssh += ["-J", ",".join(jump.address for jump in self.jumps)]
        return arguments_of_ssh

    def _keywords(self) -> list[tuple[str, str]]:
        agent = {True: None, False: "none", None: None}[self.agent] if self.agent in (True, False, None) else self.agent
        rows: list[tuple[str, Any]] = [
            ("User", self.user),
            ("Port", self.port),
            *(("IdentityFile", _quote(path)) for path in self.keys),
            *(("CertificateFile", _quote(path)) for path in self.certificates),
            ("IdentitiesOnly", self.only_keys),
            ("IdentityAgent", agent if agent in (None, "none") else _quote(_path(agent, "ConnectOptions: agent"))),
            ("ForwardAgent", self.forward_agent),
            ("UserKnownHostsFile", " ".join(map(_quote, self.known_hosts)) or None),
            ("StrictHostKeyChecking", self.host_keys),
            ("ConnectTimeout", self.connect_timeout),
            ("ServerAliveInterval", self.keepalive),
            ("Compression", self.compression),
            *self.settings.items(),
        ]
        return [
            (keyword, "yes" if value is True else "no" if value is False else str(value))
            for keyword, value in rows
            if value is not None
        ]

    def explain(self, target: str) -> Explanation:
        """Return how these options are understood for *target*, as ``pmitogen explain ssh --json`` does. Raises UsageError."""
        from pmitogen.flags.ssh.report.explain import explain_ssh

        return explain_ssh([*self.ssh_args(), target], forwards=True)


def _proxy_command(jumps: Sequence[Jump], config: Sequence[str]) -> str:
    """Return the ProxyCommand for *jumps* with options of their own, which ``-J`` cannot have. No ssh is started for it."""
    command = ""
    for jump in jumps:
        words = ["ssh", *config, *jump.ssh_args]
        if command:
            words += ["-o", f"ProxyCommand={command}"]
        words += ["-l", jump.user] if jump.user is not None else []
        words += ["-p", str(jump.port)] if jump.port is not None else []
        command = shlex.join(word.replace("%", "%%") for word in words) + " -W [%h]:%p " + shlex.quote(jump.host)
    return command


def _set_paths(options: object, label: str, *names: str) -> None:
    """Check fields that are sequences of paths, and make them tuples of str. Raises TypeError, UsageError."""
    for name in names:
        paths = _items(getattr(options, name), f"{label}: {name}")
        object.__setattr__(options, name, tuple(_path(each, f"{label}: {name}") for each in paths))


def _check_policy(policy: str | None, label: str) -> None:
    """Raise UsageError if *policy* is no value of StrictHostKeyChecking."""
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"{label}: host_keys: {policy!r}: use one of {', '.join(POLICIES)}")


def _items(value: Any, label: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Sequence):
        arguments.wrong(label, "a sequence", value)
    return value


def _path(value: Any, label: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        arguments.wrong(label, "str or os.PathLike", value)
    return arguments.text(os.fsdecode(value), label)


def _quote(path: Any) -> str:
    """Return a path as a configuration file has it: quoted if it has spaces."""
    text = str(path)
    if '"' in text or "\n" in text:
        raise UsageError(f"ConnectOptions: {text!r}: a path with a quotation mark or a line end")
    return f'"{text}"' if " " in text or "\t" in text else text
