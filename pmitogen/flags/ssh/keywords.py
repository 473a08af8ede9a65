"""Table of every keyword of ssh_config(5): its value type, its default, and what pmitogen does with it.

One row per keyword of OpenSSH 10.5, the older ones and those that Debian and Red Hat add. ``default`` is what ``ssh -G`` prints
when it is unset (None: nothing). ``effect`` is the line of documentation from which docs/ssh-options.md is made (see
report/docs_page.py). A refused keyword is an error on a command line or in a ``-F`` file, and a warning in a file for all of
the user's sessions; a *strict* one tightens security and is an error everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pmitogen.flags.ssh.settings import Verdict
from pmitogen.flags.ssh.values import algorithms, compound, jump, lists
from pmitogen.flags.ssh.values import base as k

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED


class Keyword(NamedTuple):
    """One keyword. *refuses*: returns True for the values that a REFUSED row refuses; other values are harmless."""

    name: str
    value_type: k.ValueType
    default: str | None
    verdict: Verdict
    effect: str
    refuses: Callable[[Any], bool] | None = None
    strict: bool = False
    extra: str = ""  # the optional dependency without which it is refused
    harmless_without: bool = False  # without it, harmless: distributions set this for all sessions
    even_if_unmatched: bool = False  # set even by a line in a block that does not match, as in ssh

    @property
    def key(self) -> str:
        """The keyword in lower case, which names its value."""
        return self.name.lower()


FLAG, STRING, INT, TIME = k.Flag(), k.ValueType(), k.Int(), k.Time()


def _algorithms(family: str) -> k.ValueType:
    return k.Algorithms(family)


def _is_given(value: Any) -> bool:
    return bool(value) and value not in ("none", "false", "no")


def _is_not_none(value: Any) -> bool:
    return str(value).lower() != "none"


_YES_NO_ASK = k.choice("true=yes false=no ask")
_LOG_LEVELS = "SILENT QUIET FATAL ERROR INFO VERBOSE DEBUG DEBUG1 DEBUG2 DEBUG3"
_FACILITIES = "DAEMON USER AUTH AUTHPRIV LOCAL0 LOCAL1 LOCAL2 LOCAL3 LOCAL4 LOCAL5 LOCAL6 LOCAL7"
_GSS_KEX = "GSSAPI key exchange is not supported: the host key proves the host."

# fmt: off
ROWS: tuple[Keyword, ...] = (
    Keyword("AddKeysToAgent", compound.AddKeys(), "false", HARMLESS,
        "No key is added to an agent, where it would outlive the run."),
    Keyword("AddressFamily", k.choice("inet inet6 any"), "any", HONOURED, "Only addresses of this family are tried."),
    Keyword("BatchMode", FLAG, "no", HONOURED,
        "No prompts: neither for a passphrase, nor a password, nor an unknown host key. A playbook never prompts."),
    Keyword("BindAddress", STRING, None, HONOURED, "The local address of the connection."),
    Keyword("BindInterface", STRING, None, HONOURED, "The local interface of the connection."),
    Keyword("CanonicalDomains", lists.Domains(empty_ok=False), "none", HONOURED,
        "Suffixes tried in turn when a host name is canonicalised."),
    Keyword("CanonicalizeFallbackLocal", FLAG, "yes", HONOURED,
        "Look up a name as written if no suffix fits; no: such a name is an error."),
    Keyword("CanonicalizeHostname", k.choice("true=yes false=no always"), "false", HONOURED,
        "Names are canonicalised, and the files read again for the new name."),
    Keyword("CanonicalizeMaxDots", INT, "1", HONOURED, "Names with more dots are canonical already."),
    Keyword("CanonicalizePermittedCNAMEs", lists.CNames(empty_ok=False), "none", HONOURED, "DNS aliases to follow."),
    Keyword("CASignatureAlgorithms", _algorithms(algorithms.SIGNATURE), None, HONOURED,
        "Signature algorithms accepted from the authority of a host certificate."),
    Keyword("CertificateFile", lists.Files(), None, HONOURED,
        "Certificates offered along with their keys, from files or an agent."),
    Keyword("ChannelTimeout", lists.ChannelTimeouts(empty_ok=False), "none", EMULATED,
        "Channel types session and global have an effect: after that silence the channel is closed, and the next task "
        "connects again."),
    Keyword("CheckHostIP", FLAG, "no", HONOURED, "Look up the address in known_hosts too."),
    Keyword("Ciphers", _algorithms(algorithms.CIPHER), None, HONOURED,
        "Ciphers, by preference. Unset: AES-GCM, ChaCha20-Poly1305, AES-CTR; no CBC."),
    Keyword("ClearAllForwardings", FLAG, "no", HONOURED, "Forwardings given anywhere are dropped and not reported."),
    Keyword("Compression", k.choice("yes no"), "no", HONOURED, "zlib after authentication."),
    Keyword("ConnectionAttempts", INT, "1", HONOURED, "Number of attempts to connect, one per second."),
    Keyword("ConnectTimeout", TIME, "none", HONOURED,
        "For each address, up to the server's version, as in ssh; the login is not limited by it. Unset: 10."),
    Keyword("ControlMaster", k.choice("true=yes false=no auto ask autoask"), "false", EMULATED,
        "One connection per host is shared within a run in any case."),
    Keyword("ControlPath", STRING, None, EMULATED,
        "Paths separate connections; plays make no socket. none: it ends with its run."),
    Keyword("ControlPersist", compound.ControlPersist(), "no", EMULATED,
        "Time a connection stays open after its last use, for the next run."),
    Keyword("DynamicForward", lists.Forwards("dynamic"), None, REFUSED, "No port is forwarded: run pmitogen ssh -D for that."),
    Keyword("EnableEscapeCommandline", FLAG, "no", HARMLESS, "Not used: there is no terminal."),
    Keyword("EnableSSHKeysign", FLAG, "no", HARMLESS, "Only for host-based authentication."),
    Keyword("EscapeChar", k.EscapeChar(), "~", HARMLESS, "Not used: there is no terminal."),
    Keyword("ExitOnForwardFailure", FLAG, "no", HONOURED,
        "Refuse to connect if ForwardAgent names an absent socket, or if the host key has changed and checking is off."),
    Keyword("FingerprintHash", k.UpperChoice("MD5 SHA1 SHA256 SHA384 SHA512"), "SHA256", HONOURED,
        "Hash of fingerprints in messages."),
    Keyword("ForkAfterAuthentication", FLAG, "no", HARMLESS, "Not used: there is no foreground program."),
    Keyword("ForwardAgent", k.ForwardAgent(), "no", HONOURED,
        "Tasks on the target can use the local agent, or the one whose socket is named."),
    Keyword("ForwardX11", FLAG, "no", REFUSED, "X11 is not forwarded: run ssh -X for that.", refuses=bool),
    Keyword("ForwardX11Timeout", TIME, "1200", HARMLESS, "X11 is not forwarded."),
    Keyword("ForwardX11Trusted", FLAG, "no", HARMLESS, "X11 is not forwarded."),
    Keyword("GatewayPorts", FLAG, "no", HARMLESS, "Not used: there are no forwarded ports."),
    Keyword("GlobalKnownHostsFile", lists.WordList(32), "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2", HONOURED,
        "Known host keys for all users; never written."),
    Keyword("GSSAPIAuthentication", FLAG, "no", HONOURED,
        "Log in with a Kerberos ticket (gssapi-with-mic). Needs the extra kerberos; without it the other methods are tried.",
        extra="kerberos", harmless_without=True),
    Keyword("GSSAPIClientIdentity", STRING, None, HONOURED, "The principal whose ticket is used.",
        extra="kerberos", harmless_without=True),
    Keyword("GSSAPIDelegateCredentials", FLAG, "no", HONOURED, "Forward the ticket to the host.",
        extra="kerberos", harmless_without=True),
    Keyword("GSSAPIKexAlgorithms", k.GssKex(), None, HARMLESS, _GSS_KEX),
    Keyword("GSSAPIKeyExchange", FLAG, "no", HARMLESS, _GSS_KEX),
    Keyword("GSSAPIRenewalForcesRekey", FLAG, "no", HARMLESS, _GSS_KEX),
    Keyword("GSSAPIServerIdentity", STRING, None, HONOURED, "The host's name in its principal, if that is not HostName.",
        extra="kerberos", harmless_without=True),
    Keyword("GSSAPITrustDns", FLAG, "no", HARMLESS, "The host's name is used as it is: set GSSAPIServerIdentity if needed."),
    Keyword("HashKnownHosts", FLAG, "no", HONOURED, "New host keys are recorded under a hashed name."),
    Keyword("HostbasedAcceptedAlgorithms", _algorithms(algorithms.KEY), None, HARMLESS, "Not supported."),
    Keyword("HostbasedAuthentication", FLAG, "no", HARMLESS,
        "Host-based authentication is not supported, because it needs ssh-keysign; the other methods are tried."),
    Keyword("HostKeyAlgorithms", _algorithms(algorithms.KEY), None, HONOURED,
        "Host key types, by preference. Unset: those known for the host first."),
    Keyword("HostKeyAlias", STRING, None, HONOURED, "The name under which the host key is known."),
    Keyword("HostName", STRING, None, HONOURED, "The name or address to connect to; %h is expanded."),
    Keyword("IdentitiesOnly", FLAG, "no", HONOURED, "Offer only those keys of an agent that are configured."),
    Keyword("IdentityAgent", k.AgentPath(), None, HONOURED, "The socket of the agent to use; none: no agent."),
    Keyword("IdentityFile", lists.Files(), None, HONOURED, "Private keys, or public keys whose private half is in an agent."),
    Keyword("IgnoreUnknown", STRING, None, HONOURED, "Unknown keywords that match are ignored in the lines that follow."),
    Keyword("IPQoS", compound.Qos(), "ef cs0", HONOURED,
        "DSCP of the packets; the second of two values, for sessions without a terminal. Unset: the system's default."),
    Keyword("KbdInteractiveAuthentication", FLAG, "yes", HONOURED, "Keyboard-interactive authentication may be used."),
    Keyword("KbdInteractiveDevices", STRING, None, HONOURED, "Devices requested in keyboard-interactive authentication."),
    Keyword("KexAlgorithms", _algorithms(algorithms.KEX), None, HONOURED, "Key exchange methods, by preference."),
    Keyword("KnownHostsCommand", k.Command(), None, HONOURED, "A command that prints further known_hosts lines."),
    Keyword("LocalCommand", k.Command(), None, HARMLESS, "Runs only with PermitLocalCommand."),
    Keyword("LocalForward", lists.Forwards("local"), None, REFUSED, "No port is forwarded: run pmitogen ssh -L for that."),
    Keyword("LogLevel", k.UpperChoice(_LOG_LEVELS, {"QUIET": "SILENT", "DEBUG1": "DEBUG"}), "INFO", HONOURED,
        "Verbosity of the connection's log."),
    Keyword("LogVerbose", lists.FirstWord(), "none", HARMLESS, "Not used: it names lines of OpenSSH's source."),
    Keyword("MACs", _algorithms(algorithms.MAC), None, HONOURED,
        "Message authentication codes, by preference; AES-GCM and ChaCha20-Poly1305 need none."),
    Keyword("NoHostAuthenticationForLocalhost", FLAG, "no", HONOURED, "The host key of a loopback address is not checked."),
    Keyword("NumberOfPasswordPrompts", INT, "3", HONOURED, "Number of password prompts; a configured password is tried once."),
    Keyword("ObscureKeystrokeTiming", compound.Keystrokes(), "yes", HARMLESS, "Not used: there are no keystrokes."),
    Keyword("PasswordAuthentication", FLAG, "yes", HONOURED, "Password authentication may be used."),
    Keyword("PermitLocalCommand", FLAG, "no", REFUSED,
        "LocalCommand is not run: run that command before the play.", refuses=bool, strict=True),
    Keyword("PermitRemoteOpen", lists.RemoteOpens(), "any", HARMLESS, "Only for -R PORT, which plays do not have."),
    Keyword("PKCS11Provider", STRING, None, HONOURED,
        "The library of a token (smart card, HSM) whose keys are offered first. Needs the extra pkcs11.", extra="pkcs11"),
    Keyword("Port", k.Port(), "22", HONOURED, "The port to connect to."),
    Keyword("PreferredAuthentications", STRING, None, HONOURED,
        "The order of the authentication methods; unsupported ones are skipped."),
    Keyword("ProxyCommand", k.Command(), None, HONOURED,
        "A shell command that carries the connection; ssh -W in it becomes a native jump."),
    Keyword("ProxyJump", jump.ProxyJump(), None, HONOURED,
        "Hosts to go through, each with its own configuration, without any ssh program."),
    Keyword("ProxyUseFdpass", FLAG, "no", REFUSED,
        "The command would pass a descriptor: use one that copies its stdin and stdout.", refuses=bool),
    Keyword("PubkeyAcceptedAlgorithms", _algorithms(algorithms.KEY), None, HONOURED,
        "Signature algorithms for the user's own keys, by preference."),
    Keyword("PubkeyAuthentication", k.choice("true=yes false=no unbound host-bound"), "true", HONOURED,
        "Allow keys. Signatures include the server's host key if the server supports that, except with unbound."),
    Keyword("RefuseConnection", STRING, None, HONOURED, "Connecting fails with this text."),
    Keyword("RekeyLimit", compound.RekeyLimit(), "0 0", HONOURED,
        "Number of bytes and time after which session keys are renewed."),
    Keyword("RemoteCommand", k.Command(), None, REFUSED,
        "pmitogen runs its own command; remove it, or use RemoteCommand none.", refuses=_is_not_none),
    Keyword("RemoteForward", lists.Forwards("remote"), None, REFUSED,
        "No port is forwarded: run pmitogen ssh -N -R beside the play for that."),
    Keyword("RequestTTY", k.choice("true=yes false=no force auto"), "auto", HARMLESS,
        "Not used: terminals are for escalation only."),
    Keyword("RequiredRSASize", INT, "1024", HONOURED, "Minimum size of RSA keys, the host's and the user's."),
    Keyword("RevokedHostKeys", lists.WordList(empty_ok=False), None, HONOURED,
        "Files of refused host keys, as text or as a KRL (ssh-keygen -k). If one cannot be read, every host is refused."),
    Keyword("SecurityKeyProvider", STRING, "internal", HARMLESS, "Hardware keys are used through an agent."),
    Keyword("SendEnv", lists.SendEnv(), None, HONOURED,
        "Local variables sent to the remote session; the server may ignore them."),
    Keyword("ServerAliveCountMax", INT, "3", HONOURED, "Number of unanswered probes after which the connection ends."),
    Keyword("ServerAliveInterval", TIME, "0", HONOURED,
        "Seconds of silence before a probe. Unset: 15. During the login, the limit for each answer of the server is this "
        "times ServerAliveCountMax; unset: 150 seconds."),
    Keyword("SessionType", k.choice("none subsystem default"), "default", REFUSED,
        "pmitogen needs a session with a command; remove it.", refuses=lambda value: value != "default"),
    Keyword("SetEnv", lists.SetEnv(), None, HONOURED, "Variables sent to the remote session; the server may ignore them."),
    Keyword("StdinNull", FLAG, "no", HARMLESS, "pmitogen uses standard input itself."),
    Keyword("StreamLocalBindMask", compound.Mask(), "0177", HARMLESS, "No socket is forwarded.", even_if_unmatched=True),
    Keyword("StreamLocalBindUnlink", FLAG, "no", HARMLESS, "No socket is forwarded."),
    Keyword("StrictHostKeyChecking", k.choice("true=yes false=no=off ask accept-new"), "ask", HONOURED,
        "Policy for an unknown host key; ask means yes in a playbook. A changed key is refused, except with off."),
    Keyword("SyslogFacility", k.UpperChoice(_FACILITIES), "USER", HARMLESS, "Not used: syslog is off.", even_if_unmatched=True),
    Keyword("Tag", STRING, None, HONOURED, "The tag that Match tagged tests."),
    Keyword("TCPKeepAlive", FLAG, "yes", HONOURED, "SO_KEEPALIVE on the socket."),
    Keyword("Tunnel", k.choice("ethernet point-to-point=true=yes false=no"), "false", REFUSED,
        "No network device is tunnelled: run ssh -w for that.", refuses=_is_given),
    Keyword("TunnelDevice", compound.TunnelDevice(), "any:any", HARMLESS, "No effect without Tunnel."),
    Keyword("UpdateHostKeys", _YES_NO_ASK, "true", HARMLESS, "Further host keys from a server are not recorded."),
    Keyword("User", STRING, None, HONOURED, "The account to log in to."),
    Keyword("UserKnownHostsFile", lists.WordList(32), "~/.ssh/known_hosts ~/.ssh/known_hosts2", HONOURED,
        "The user's own known host keys; new ones are recorded in the first."),
    Keyword("VerifyHostKeyDNS", _YES_NO_ASK, "false", REFUSED,
        "SSHFP records are not looked up: put the key into known_hosts.", refuses=_is_given),
    Keyword("VersionAddendum", k.Version(), None, HONOURED, "Text appended to the client's version string."),
    Keyword("VisualHostKey", FLAG, "no", HARMLESS, "Not used: no key art is printed."),
    Keyword("WarnWeakCrypto", k.choice("yes=true no=false=no-pq-kex"), "yes", HONOURED,
        "Warn if the key exchange is not post-quantum."),
    Keyword("XAuthLocation", STRING, "/usr/bin/xauth", HARMLESS, "X11 is not forwarded."),
)
# fmt: on

TABLE: dict[str, Keyword] = {row.key: row for row in ROWS}

ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "tisauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "identityfile2": "identityfile",
    "keepalive": "tcpkeepalive",
    "protocolkeepalives": "serveraliveinterval",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "setuptimeout": "serveraliveinterval",
    "smartcarddevice": "pkcs11provider",
}

# Keywords that ssh accepts and ignores.
OBSOLETE = {
    "protocol": "Protocol 2 is the only one.",
    "cipher": "Was for protocol 1; use Ciphers.",
    "fallbacktorsh": "rsh is not supported.",
    "globalknownhostsfile2": "List all files in GlobalKnownHostsFile.",
    "rhostsauthentication": "Was for protocol 1.",
    "userknownhostsfile2": "List all files in UserKnownHostsFile.",
    "useblacklistedkeys": "Was an option of Debian's ssh.",
    "useroaming": "Was never supported by servers.",
    "usersh": "rsh is not supported.",
    "useprivilegedport": "Ports below 1024 are not used.",
    "afstokenpassing": "Was for protocol 1.",
    "kerberosauthentication": "Was for protocol 1.",
    "kerberostgtpassing": "Was for protocol 1.",
    "rsaauthentication": "Was for protocol 1; use PubkeyAuthentication.",
    "rhostsrsaauthentication": "Was for protocol 1.",
    "compressionlevel": "Was for protocol 1.",
}

BLOCK_KEYWORDS = {
    "host": "The lines up to the next Host or Match apply to destinations that match a pattern, and no negated one (!).",
    "match": "The same for conditions: all, canonical, final, exec, host, originalhost, user, localuser, localnetwork, tagged, "
    "command, sessiontype, version. Plays and the library count as sessiontype exec with the command /bin/sh -c pmitogen, "
    "because one connection runs all their commands. A jump host counts as sessiontype none; one of a ProxyCommand that runs "
    "netcat there counts as exec with that command.",
    "include": "Read other files; wildcards, tokens and ${VARIABLES} are expanded, up to 16 files deep.",
}


NAMES = frozenset([*TABLE, *ALIASES, *OBSOLETE, *BLOCK_KEYWORDS])
"""Every keyword that may start a line, in lower case."""
