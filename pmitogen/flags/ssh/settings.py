"""Settings of one connection: every ssh_config keyword, resolved and typed.

``flags`` makes Settings from text, ``transport`` uses them. There is one field per keyword that has an effect here, named as
the lower-case keyword of ssh_config(5). Conventions: yes/no values are ``bool``, times are seconds, sizes are bytes, lists are
tuples. ``None`` means "unset", if unset has a meaning of its own. Paths are absolute.

Tokens, ``~`` and ``${VAR}`` are already expanded if ssh expands them before connecting. Tokens that need the connection are left
as written, as are all of KnownHostsCommand, because ssh splits it into arguments before it expands them.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from pmitogen.flags.ssh.values.forwards import Forwardings
from pmitogen.util.caller import CallerEnvironment

METHODS = ("publickey", "keyboard-interactive", "password")  # the default order


class Verdict(enum.Enum):
    """The treatment of an option."""

    HONOURED = "honoured"
    HARMLESS = "harmless"
    EMULATED = "emulated"
    REFUSED = "refused"
    CONFLICT = "conflict"


class Finding(NamedTuple):
    """One line of a report: an option, its origin, and its treatment."""

    option: str
    origin: str  # "ssh_args", "command line", "/etc/ssh/ssh_config line 12" ...
    verdict: Verdict
    reason: str
    fatal: bool = False  # an explicit refused option is an error; in a file for all sessions it is a warning


class JumpHop(NamedTuple):
    """One hop of ProxyJump, as written; other settings come from the hop's own configuration.

    *argv*: further flags for an ssh to this hop: the destination's ``-F`` and ``-v`` for a ProxyJump,
    those of the inner command line for a ProxyCommand that is a jump.
    *command*: for Match, the netcat that a ProxyCommand runs on the hop; empty with ``-W``.
    """

    host: str
    user: str | None = None
    port: int | None = None
    argv: tuple[str, ...] = ()
    command: str = ""


class Settings(NamedTuple):
    """The resolved options of one destination. Defaults are OpenSSH's, except where docs/ssh-options.md says otherwise."""

    originalhost: str  # as the user typed it (%n)
    hostname: str  # the name or address to connect to (%h)
    user: str
    port: int = 22

    # Dialling
    addressfamily: str = "any"  # any, inet, inet6
    bindaddress: str | None = None
    bindinterface: str | None = None
    connecttimeout: int | None = None  # seconds; None: the caller's own limit
    connectionattempts: int = 1
    tcpkeepalive: bool = True
    ipqos: tuple[int, ...] = ()  # (interactive, bulk) or one for both; empty: leave the system's
    proxyjump: tuple[JumpHop, ...] = ()  # in order, nearest to this machine first
    proxycommand: str | None = None  # tokens expanded; run by a shell
    versionaddendum: str | None = None

    # Algorithms: empty means pmitogen's default order
    ciphers: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    kexalgorithms: tuple[str, ...] = ()
    hostkeyalgorithms: tuple[str, ...] = ()
    hostkeyalgorithms_fixed: bool = (
        True  # False: the list only adds to the default or removes from it; known keys decide the order
    )
    pubkeyacceptedalgorithms: tuple[str, ...] = ()
    casignaturealgorithms: tuple[str, ...] = ()
    compression: bool = False
    rekeylimit: tuple[int, int] = (0, 0)  # bytes, seconds; 0: pmitogen's default
    requiredrsasize: int = 1024  # bits
    warnweakcrypto: bool = False

    # Host key
    hostkeyalias: str | None = None
    stricthostkeychecking: str = "ask"  # yes, accept-new, no (same as off), ask
    userknownhostsfile: tuple[str, ...] = ()
    globalknownhostsfile: tuple[str, ...] = ()
    knownhostscommand: str | None = None
    knownhostscommand_tokens: tuple[tuple[str, str], ...] = ()  # letter and value of those that do not need the connection
    revokedhostkeys: tuple[str, ...] = ()
    hashknownhosts: bool = False
    checkhostip: bool = False
    nohostauthenticationforlocalhost: bool = False
    fingerprinthash: str = "sha256"

    # Authentication
    preferredauthentications: tuple[str, ...] = METHODS
    pubkeyauthentication: bool = True
    pubkeyauthentication_hostbound: bool = True  # signatures include the host key, if the server supports that
    passwordauthentication: bool = True
    kbdinteractiveauthentication: bool = True
    kbdinteractivedevices: tuple[str, ...] = ()
    gssapiauthentication: bool = False
    gssapidelegatecredentials: bool = False
    gssapiserveridentity: str | None = None  # None: hostname
    gssapiclientidentity: str | None = None  # None: the ticket cache's own
    identityfile: tuple[str, ...] = ()
    identityfile_explicit: bool = False  # False: ssh's built-in default names, skipped without a message when absent
    certificatefile: tuple[str, ...] = ()
    identitiesonly: bool = False
    identityagent: str | None = None  # socket path; None: no agent
    pkcs11provider: str | None = None  # the library's path, or a name that the dynamic linker searches
    numberofpasswordprompts: int = 3
    batchmode: bool = False

    # The session
    forwardagent: bool = False
    forwardagent_socket: str | None = None  # a path given as the value of ForwardAgent; None: the same agent as identityagent
    exitonforwardfailure: bool | None = None  # None: only for a connection that forwards, such as a jump host's
    sendenv: tuple[str, ...] = ()  # patterns; a leading "-" removes
    setenv: tuple[tuple[str, str], ...] = ()
    serveraliveinterval: int | None = None  # seconds; None: pmitogen's default
    serveralivecountmax: int = 3
    channeltimeout: int = 0  # seconds of silence on a session channel; 0: none
    channeltimeout_global: int = 0  # the same on all channels together
    controlmaster: bool = True
    controlpath: str | None = None  # no socket is made; connections with different paths are not shared
    controlpersist: int = 0  # seconds a connection outlives its last use; 0: only while the run lasts; -1: until stopped
    refuseconnection: str | None = None
    loglevel: str = "INFO"
    logfile: str | None = None  # -E
    caller: CallerEnvironment | None = None  # the directory and environment to use; None: this process's

    report: tuple[Finding, ...] = ()
    forwardings: Forwardings = Forwardings()  # of the library; those of the command ssh are in its Invocation

    @property
    def endpoint(self) -> str:
        """The destination for messages: ``user@host port N``, or ``host port N`` if the user is not known."""
        return (f"{self.user}@" if self.user else "") + f"{self.hostname} port {self.port}"
