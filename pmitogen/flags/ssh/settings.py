"""Settings of one connection: every ssh_config keyword, resolved and typed.

The seam between ``flags`` (which reads text) and ``transport`` (which acts). One field per keyword that has an effect
here, named as the lower-case keyword of ssh_config(5), so that a reader of either manual knows the other. Conventions:
yes/no words are ``bool``, times are seconds, sizes are bytes, lists are tuples, and ``None`` means "unset, and unset has a
meaning of its own". Tokens, ``~`` and ``${VAR}`` are already expanded wherever ssh expands them before connecting; those that
need the connection are left as written, as are all of KnownHostsCommand, because ssh cuts it into arguments before it expands
them. Paths are absolute.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from pmitogen.util.caller import CallerEnvironment

METHODS = ("publickey", "keyboard-interactive", "password")  # the default order


class Verdict(enum.Enum):
    """What pmitogen does with an option."""

    HONOURED = "honoured"
    HARMLESS = "harmless"
    EMULATED = "emulated"
    REFUSED = "refused"
    CONFLICT = "conflict"


class Finding(NamedTuple):
    """One line of a report: an option, where it was given, and what pmitogen does with it."""

    option: str
    origin: str  # "ssh_args", "command line", "/etc/ssh/ssh_config line 12" ...
    verdict: Verdict
    why: str
    fatal: bool = False  # an explicit refused option is an error; in a file for all sessions it is a warning


class JumpHop(NamedTuple):
    """One hop of ProxyJump, as written: the rest comes from the hop's own configuration.

    *argv*: the flags that an ssh to this hop would be started with besides: the destination's ``-F`` and ``-v`` for a ProxyJump,
    those of the inner command line for a ProxyCommand that amounts to a jump.
    """

    host: str
    user: str | None = None
    port: int | None = None
    argv: tuple[str, ...] = ()


class Settings(NamedTuple):
    """The resolved options of one destination. Defaults are OpenSSH's, except where docs/ssh-options.md says otherwise."""

    originalhost: str  # as the user typed it (%n)
    hostname: str  # what to connect to (%h)
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
    proxyjump: tuple[JumpHop, ...] = ()  # in travelling order, nearest to us first
    proxycommand: str | None = None  # tokens expanded; run by a shell
    versionaddendum: str | None = None

    # Algorithms: empty means our own default order
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
    rekeylimit: tuple[int, int] = (0, 0)  # bytes, seconds; 0: our default
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
    pubkeyauthentication_hostbound: bool = True  # with the host key in what is signed, where the server takes that
    passwordauthentication: bool = True
    kbdinteractiveauthentication: bool = True
    kbdinteractivedevices: tuple[str, ...] = ()
    identityfile: tuple[str, ...] = ()
    identityfile_explicit: bool = False  # False: these are ssh's built-in default names, silently skipped when absent
    certificatefile: tuple[str, ...] = ()
    identitiesonly: bool = False
    identityagent: str | None = None  # socket path; None: no agent
    numberofpasswordprompts: int = 3
    batchmode: bool = False

    # The session
    forwardagent: bool = False
    forwardagent_socket: str | None = None  # a path given as the value of ForwardAgent; None: the same agent as identityagent
    exitonforwardfailure: bool | None = None  # None: only for a connection whose purpose is to forward, such as a jump host's
    sendenv: tuple[str, ...] = ()  # patterns; a leading "-" removes
    setenv: tuple[tuple[str, str], ...] = ()
    serveraliveinterval: int | None = None  # seconds; None: our default
    serveralivecountmax: int = 3
    channeltimeout: int = 0  # seconds of silence on a session channel; 0: none
    channeltimeout_global: int = 0  # the same on all channels together
    controlmaster: bool = True
    controlpath: str | None = None  # no such socket is made; connections with different ones are not shared
    controlpersist: int = 0  # seconds a connection outlives its last use; 0: only while the run lasts; -1: until stopped
    refuseconnection: str | None = None
    loglevel: str = "INFO"
    logfile: str | None = None  # -E
    caller: CallerEnvironment | None = None  # whose directory and environment count; None: this process's

    report: tuple[Finding, ...] = ()

    @property
    def endpoint(self) -> str:
        """Where the connection goes, for messages: ``user@host port N``, or ``host port N`` where the user is not known."""
        return (f"{self.user}@" if self.user else "") + f"{self.hostname} port {self.port}"
