"""Table of every keyword of ssh_config(5): its value type, its default, and what pmitogen does with it.

One row per keyword of OpenSSH 10.5, the older ones and those that Debian and Red Hat add. ``default`` is what ``ssh -G`` prints
when nobody has set it (None: nothing). ``effect`` is the line of documentation from which docs/ssh-options.md is made:
``python -m pmitogen.flags.ssh.keywords``. A refused keyword is an error on a command line or in a ``-F`` file, and a warning in a
file for all of the user's sessions; a *strict* one tightens security and is an error everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pmitogen.flags.ssh.settings import Verdict
from pmitogen.flags.ssh.values import algorithms, compound, jump, lists
from pmitogen.flags.ssh.values import base as k

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED


class Row(NamedTuple):
    """One keyword. *refuses* says which values a REFUSED row refuses; the others are harmless."""

    name: str
    kind: k.ValueType
    default: str | None
    verdict: Verdict
    effect: str
    refuses: Callable[[Any], bool] | None = None
    strict: bool = False
    even_if_unmatched: bool = False  # set even by a line in a block that does not match, as in ssh

    @property
    def key(self) -> str:
        """The keyword in lower case: the name of its value everywhere."""
        return self.name.lower()


FLAG, STRING, INT, TIME = k.Flag(), k.ValueType(), k.Int(), k.Time()


def _algorithms(family: str) -> k.ValueType:
    return k.Algorithms(family)


def _given(value: Any) -> bool:
    return bool(value) and value not in ("none", "false", "no")


def _not_none(value: Any) -> bool:
    return str(value).lower() != "none"


_YES_NO_ASK = k.choice("true=yes false=no ask")
_LOG_LEVELS = "SILENT QUIET FATAL ERROR INFO VERBOSE DEBUG DEBUG1 DEBUG2 DEBUG3"
_FACILITIES = "DAEMON USER AUTH AUTHPRIV LOCAL0 LOCAL1 LOCAL2 LOCAL3 LOCAL4 LOCAL5 LOCAL6 LOCAL7"
_GSS = "GSSAPI does not exist in Paramiko; the other methods are tried."

# fmt: off
ROWS: tuple[Row, ...] = (
    Row("AddKeysToAgent", compound.AddKeys(), "false", HARMLESS,
        "No key is added to an agent, which would keep it beyond the run."),
    Row("AddressFamily", k.choice("inet inet6 any"), "any", HONOURED, "Only addresses of this family are tried."),
    Row("BatchMode", FLAG, "no", HONOURED,
        "Nothing is ever asked: no passphrase, no password, no unknown host key. A playbook never asks anyway."),
    Row("BindAddress", STRING, None, HONOURED, "The local address of the connection."),
    Row("BindInterface", STRING, None, HONOURED, "The local interface of the connection."),
    Row("CanonicalDomains", lists.Domains(empty_ok=False), "none", HONOURED,
        "Suffixes tried in turn when a host name is made canonical."),
    Row("CanonicalizeFallbackLocal", FLAG, "yes", HONOURED,
        "Whether a name found below no suffix is looked up as it is, or is an error."),
    Row("CanonicalizeHostname", k.choice("true=yes false=no always"), "false", HONOURED,
        "Names are made canonical, and the files read again for the new name."),
    Row("CanonicalizeMaxDots", INT, "1", HONOURED, "Names with more dots are canonical already."),
    Row("CanonicalizePermittedCNAMEs", lists.CNames(empty_ok=False), "none", HONOURED, "Which aliases of the DNS are followed."),
    Row("CASignatureAlgorithms", _algorithms(algorithms.SIGNATURE), None, HONOURED,
        "Which signatures of an authority on a host certificate count."),
    Row("CertificateFile", lists.Files(), None, HONOURED, "Certificates offered along with their keys, from files or an agent."),
    Row("ChannelTimeout", lists.ChannelTimeouts(empty_ok=False), "none", EMULATED,
        "Of the types of channel, session and global matter: after that silence our channel is closed, and the next task "
        "connects again."),
    Row("CheckHostIP", FLAG, "no", HONOURED, "The address is looked up in known_hosts too."),
    Row("Ciphers", _algorithms(algorithms.CIPHER), None, HONOURED,
        "Ciphers, by preference. Unset: AES-GCM, ChaCha20-Poly1305, AES-CTR; no CBC."),
    Row("ClearAllForwardings", FLAG, "no", HONOURED, "Forwardings given anywhere are dropped before they are judged."),
    Row("Compression", k.choice("yes no"), "no", HONOURED, "zlib after authentication."),
    Row("ConnectionAttempts", INT, "1", HONOURED, "How often connecting is tried, once a second."),
    Row("ConnectTimeout", TIME, "none", HONOURED,
        "For each address, up to the server's version, as in ssh; the login is not limited by it. Unset: 10."),
    Row("ControlMaster", k.choice("true=yes false=no auto ask autoask"), "false", EMULATED,
        "One connection per host is shared within a run in any case."),
    Row("ControlPath", STRING, None, EMULATED, "No socket is made; other paths, other connections; none: ends with its run."),
    Row("ControlPersist", compound.ControlPersist(), "no", EMULATED,
        "How long a connection outlives its last use, for the next run to find it."),
    Row("DynamicForward", lists.Forwards("dynamic"), None, REFUSED, "No port is forwarded: run ssh -D for that."),
    Row("EnableEscapeCommandline", FLAG, "no", HARMLESS, "There is no terminal."),
    Row("EnableSSHKeysign", FLAG, "no", HARMLESS, "Only for host-based authentication."),
    Row("EscapeChar", k.EscapeChar(), "~", HARMLESS, "There is no terminal."),
    Row("ExitOnForwardFailure", FLAG, "no", HONOURED,
        "No connection where ForwardAgent names an absent socket, nor where the host key has changed and checking is off."),
    Row("FingerprintHash", k.UpperChoice("MD5 SHA1 SHA256 SHA384 SHA512"), "SHA256", HONOURED,
        "How fingerprints are shown in messages."),
    Row("ForkAfterAuthentication", FLAG, "no", HARMLESS, "There is no foreground program."),
    Row("ForwardAgent", k.ForwardAgent(), "no", HONOURED,
        "Tasks on the target can use the local agent, or the one whose socket is named."),
    Row("ForwardX11", FLAG, "no", REFUSED, "X11 is not forwarded: run ssh -X for that.", refuses=bool),
    Row("ForwardX11Timeout", TIME, "1200", HARMLESS, "X11 is not forwarded."),
    Row("ForwardX11Trusted", FLAG, "no", HARMLESS, "X11 is not forwarded."),
    Row("GatewayPorts", FLAG, "no", HARMLESS, "There are no forwarded ports."),
    Row("GlobalKnownHostsFile", lists.WordList(32), "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2", HONOURED,
        "Known host keys for all users; never written."),
    Row("GSSAPIAuthentication", FLAG, "no", HARMLESS, _GSS),
    Row("GSSAPIClientIdentity", STRING, None, HARMLESS, _GSS),
    Row("GSSAPIDelegateCredentials", FLAG, "no", HARMLESS, _GSS),
    Row("GSSAPIKexAlgorithms", k.GssKex(), None, HARMLESS, _GSS),
    Row("GSSAPIKeyExchange", FLAG, "no", HARMLESS, _GSS),
    Row("GSSAPIRenewalForcesRekey", FLAG, "no", HARMLESS, _GSS),
    Row("GSSAPIServerIdentity", STRING, None, HARMLESS, _GSS),
    Row("GSSAPITrustDns", FLAG, "no", HARMLESS, _GSS),
    Row("HashKnownHosts", FLAG, "no", HONOURED, "A host key that we record is recorded under a hashed name."),
    Row("HostbasedAcceptedAlgorithms", _algorithms(algorithms.KEY), None, HARMLESS, "There is no host-based authentication."),
    Row("HostbasedAuthentication", FLAG, "no", HARMLESS,
        "There is no host-based authentication, which needs ssh-keysign; the other methods are tried."),
    Row("HostKeyAlgorithms", _algorithms(algorithms.KEY), None, HONOURED,
        "Host key types, by preference. Unset: those known for the host first."),
    Row("HostKeyAlias", STRING, None, HONOURED, "The name under which the host key is known."),
    Row("HostName", STRING, None, HONOURED, "The name or address to connect to; knows %h."),
    Row("IdentitiesOnly", FLAG, "no", HONOURED, "Of an agent's keys, only those that are configured are offered."),
    Row("IdentityAgent", k.AgentPath(), None, HONOURED, "The socket of the agent to use; none: no agent."),
    Row("IdentityFile", lists.Files(), None, HONOURED, "Private keys, or public ones whose private half an agent has."),
    Row("IgnoreUnknown", STRING, None, HONOURED, "Unknown keywords that match are no error, from there on."),
    Row("IPQoS", compound.Qos(), "ef cs0", HONOURED,
        "DSCP of the packets; of two, the second, as our traffic is not a terminal's. Unset: left to the system."),
    Row("KbdInteractiveAuthentication", FLAG, "yes", HONOURED, "Keyboard-interactive authentication may be used."),
    Row("KbdInteractiveDevices", STRING, None, HONOURED, "Devices asked for in keyboard-interactive authentication."),
    Row("KexAlgorithms", _algorithms(algorithms.KEX), None, HONOURED, "Key exchange methods, by preference."),
    Row("KnownHostsCommand", k.Command(), None, HONOURED, "A command that prints further known_hosts lines."),
    Row("LocalCommand", k.Command(), None, HARMLESS, "Runs only with PermitLocalCommand, which see."),
    Row("LocalForward", lists.Forwards("local"), None, REFUSED, "No port is forwarded: run ssh -L for that."),
    Row("LogLevel", k.UpperChoice(_LOG_LEVELS, {"QUIET": "SILENT", "DEBUG1": "DEBUG"}), "INFO", HONOURED,
        "How much the connection says in the log."),
    Row("LogVerbose", lists.FirstWord(), "none", HARMLESS, "Names lines of OpenSSH's own source."),
    Row("MACs", _algorithms(algorithms.MAC), None, HONOURED,
        "Message authentication codes, by preference; AES-GCM and ChaCha20-Poly1305 need none."),
    Row("NoHostAuthenticationForLocalhost", FLAG, "no", HONOURED, "The host key of a loopback address is not checked."),
    Row("NumberOfPasswordPrompts", INT, "3", HONOURED, "How often a password is asked for; one that is given is tried once."),
    Row("ObscureKeystrokeTiming", compound.Keystrokes(), "yes", HARMLESS, "Nobody types."),
    Row("PasswordAuthentication", FLAG, "yes", HONOURED, "Password authentication may be used."),
    Row("PermitLocalCommand", FLAG, "no", REFUSED,
        "With LocalCommand it asks for a side effect that we do not have: run that command before the "
        "play.", refuses=bool, strict=True),
    Row("PermitRemoteOpen", lists.RemoteOpens(), "any", HARMLESS, "There is no remote forwarding."),
    Row("PKCS11Provider", STRING, None, REFUSED,
        "Paramiko cannot load it: add the token to an agent with ssh-add -s LIBRARY.", refuses=_not_none),
    Row("Port", k.Port(), "22", HONOURED, "The port to connect to."),
    Row("PreferredAuthentications", STRING, None, HONOURED,
        "The order of the authentication methods; those we lack are skipped."),
    Row("ProxyCommand", k.Command(), None, HONOURED,
        "A shell command that carries the connection; ssh -W in it becomes a native jump."),
    Row("ProxyJump", jump.ProxyJump(), None, HONOURED,
        "Hosts to go through, each with its own configuration, without any ssh program."),
    Row("ProxyUseFdpass", FLAG, "no", REFUSED,
        "The command would pass a descriptor: use one that copies its stdin and stdout.", refuses=bool),
    Row("PubkeyAcceptedAlgorithms", _algorithms(algorithms.KEY), None, HONOURED,
        "Signature algorithms for our own keys, by preference."),
    Row("PubkeyAuthentication", k.choice("true=yes false=no unbound host-bound"), "true", HONOURED,
        "Whether keys may be used; signatures name the server's host key where the server takes that, except with unbound."),
    Row("RefuseConnection", STRING, None, HONOURED, "Connecting fails with this text."),
    Row("RekeyLimit", compound.RekeyLimit(), "0 0", HONOURED, "New session keys after so many bytes, or after this time."),
    Row("RemoteCommand", k.Command(), None, REFUSED,
        "Our own command must run: remove it, or write RemoteCommand none.", refuses=_not_none),
    Row("RemoteForward", lists.Forwards("remote"), None, REFUSED,
        "No port is forwarded: run ssh -N -R beside the play for that."),
    Row("RequestTTY", k.choice("true=yes false=no force auto"), "auto", HARMLESS,
        "Terminals are opened for becoming another user only, whatever this says."),
    Row("RequiredRSASize", INT, "1024", HONOURED, "Shorter RSA keys are refused, the host's and ours."),
    Row("RevokedHostKeys", lists.WordList(empty_ok=False), None, HONOURED,
        "Files of host keys that are refused, as text or as a KRL (ssh-keygen -k). One that cannot be read refuses every host."),
    Row("SecurityKeyProvider", STRING, "internal", HARMLESS, "Hardware keys are used through an agent."),
    Row("SendEnv", lists.SendEnv(), None, HONOURED, "Local variables for the remote session; the server decides."),
    Row("ServerAliveCountMax", INT, "3", HONOURED, "How many unanswered probes mean that the host is gone."),
    Row("ServerAliveInterval", TIME, "0", HONOURED,
        "Seconds of silence before a probe. Unset: 15. During the login, each answer of the server may take this times "
        "ServerAliveCountMax; unset: 150 seconds."),
    Row("SessionType", k.choice("none subsystem default"), "default", REFUSED,
        "A session with a command is what we need: remove it.", refuses=lambda value: value != "default"),
    Row("SetEnv", lists.SetEnv(), None, HONOURED, "Variables for the remote session; the server decides."),
    Row("StdinNull", FLAG, "no", HARMLESS, "Standard input is ours."),
    Row("StreamLocalBindMask", compound.Mask(), "0177", HARMLESS, "No socket is forwarded.", even_if_unmatched=True),
    Row("StreamLocalBindUnlink", FLAG, "no", HARMLESS, "No socket is forwarded."),
    Row("StrictHostKeyChecking", k.choice("true=yes false=no=off ask accept-new"), "ask", HONOURED,
        "What to do with an unknown host key; ask means yes in a playbook. A changed key is refused unless it is off."),
    Row("SyslogFacility", k.UpperChoice(_FACILITIES), "USER", HARMLESS, "Nothing goes to syslog.", even_if_unmatched=True),
    Row("Tag", STRING, None, HONOURED, "What Match tagged compares with."),
    Row("TCPKeepAlive", FLAG, "yes", HONOURED, "SO_KEEPALIVE on the socket."),
    Row("Tunnel", k.choice("ethernet point-to-point=true=yes false=no"), "false", REFUSED,
        "No network device is tunnelled: run ssh -w for that.", refuses=_given),
    Row("TunnelDevice", compound.TunnelDevice(), "any:any", HARMLESS, "Means nothing without Tunnel."),
    Row("UpdateHostKeys", _YES_NO_ASK, "true", HARMLESS, "Further host keys that a server announces are not recorded."),
    Row("User", STRING, None, HONOURED, "The account to log in to."),
    Row("UserKnownHostsFile", lists.WordList(32), "~/.ssh/known_hosts ~/.ssh/known_hosts2", HONOURED,
        "The user's own known host keys; new ones are recorded in the first."),
    Row("VerifyHostKeyDNS", _YES_NO_ASK, "false", REFUSED,
        "SSHFP records are not looked up: put the key into known_hosts.", refuses=_given),
    Row("VersionAddendum", k.Version(), None, HONOURED, "Text added to the version that we announce."),
    Row("VisualHostKey", FLAG, "no", HARMLESS, "No pictures of keys."),
    Row("WarnWeakCrypto", k.choice("yes=true no=false=no-pq-kex"), "yes", HONOURED,
        "When it is set, a key exchange that is not post-quantum is warned of."),
    Row("XAuthLocation", STRING, "/usr/bin/xauth", HARMLESS, "X11 is not forwarded."),
)
# fmt: on

TABLE: dict[str, Row] = {row.key: row for row in ROWS}

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
    "protocol": "Only protocol 2 exists.",
    "cipher": "Was for protocol 1; use Ciphers.",
    "fallbacktorsh": "There is no rsh.",
    "globalknownhostsfile2": "Name all files in GlobalKnownHostsFile.",
    "rhostsauthentication": "Was for protocol 1.",
    "userknownhostsfile2": "Name all files in UserKnownHostsFile.",
    "useblacklistedkeys": "Was Debian's.",
    "useroaming": "Was never supported by servers.",
    "usersh": "There is no rsh.",
    "useprivilegedport": "Ports below 1024 are not used.",
    "afstokenpassing": "Was for protocol 1.",
    "kerberosauthentication": "Was for protocol 1.",
    "kerberostgtpassing": "Was for protocol 1.",
    "rsaauthentication": "Was for protocol 1; use PubkeyAuthentication.",
    "rhostsrsaauthentication": "Was for protocol 1.",
    "compressionlevel": "Was for protocol 1.",
}

BLOCK_KEYWORDS = {
    "host": "The lines up to the next Host or Match count for destinations that match one of the patterns, and none with !.",
    "match": "The same for conditions: all, canonical, final, exec, host, originalhost, user, localuser, localnetwork, tagged, "
    "command, sessiontype, version.",
    "include": "Reads other files; wildcards, tokens and ${VARIABLES} are expanded, up to 16 files deep.",
}


NAMES = frozenset([*TABLE, *ALIASES, *OBSOLETE, *BLOCK_KEYWORDS])
"""Every keyword that may start a line, in lower case."""


def main() -> None:
    """Print docs/ssh-options.md."""
    from pmitogen.flags.ssh.report.docs_page import document

    print(document(), end="")


if __name__ == "__main__":
    main()
