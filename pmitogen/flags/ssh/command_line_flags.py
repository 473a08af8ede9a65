"""Table of the flags of ssh(1): argument and effect in pmitogen. command_line.py applies them."""

from __future__ import annotations

from typing import NamedTuple

from pmitogen.flags.ssh.settings import Verdict

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED


class FlagRow(NamedTuple):
    """One flag. *keyword* names the row of keywords.py that judges it; then the verdict here is only documentation."""

    letter: str
    argument: str  # the name of its argument, or empty
    verdict: Verdict
    effect: str
    keyword: str = ""


# fmt: off
FLAGS: dict[str, FlagRow] = {row.letter: row for row in (
    FlagRow("1", "", REFUSED, "Protocol 1 is not supported."),
    FlagRow("2", "", HARMLESS, "Protocol 2 is the only one."),
    FlagRow("4", "", HONOURED, "AddressFamily inet.", "addressfamily"),
    FlagRow("6", "", HONOURED, "AddressFamily inet6.", "addressfamily"),
    FlagRow("A", "", HONOURED, "ForwardAgent yes.", "forwardagent"),
    FlagRow("a", "", HONOURED, "ForwardAgent no.", "forwardagent"),
    FlagRow("B", "interface", HONOURED, "BindInterface.", "bindinterface"),
    FlagRow("b", "address", HONOURED, "BindAddress.", "bindaddress"),
    FlagRow("C", "", HONOURED, "Compression yes.", "compression"),
    FlagRow("c", "ciphers", HONOURED, "Ciphers; the last one wins.", "ciphers"),
    FlagRow("D", "[address:]port", REFUSED, "DynamicForward.", "dynamicforward"),
    FlagRow("E", "file", EMULATED, "Write the log of this connection to the file."),
    FlagRow("e", "char", HARMLESS, "Not used: there is no terminal.", "escapechar"),
    FlagRow("F", "file", HONOURED, "Read this file instead of the user's and the system's; none: no file."),
    FlagRow("f", "", HARMLESS, "Not used: there is no foreground program.", "forkafterauthentication"),
    FlagRow("G", "", REFUSED, "Prints and exits: run pmitogen explain ssh."),
    FlagRow("g", "", HARMLESS, "Not used: there are no forwarded ports.", "gatewayports"),
    FlagRow("I", "library", HONOURED, "PKCS11Provider.", "pkcs11provider"),
    FlagRow("i", "file", HONOURED, "IdentityFile; one that cannot be read is skipped with a warning.", "identityfile"),
    FlagRow("J", "hops", HONOURED, "ProxyJump.", "proxyjump"),
    FlagRow("K", "", HONOURED, "GSSAPIAuthentication and GSSAPIDelegateCredentials yes.", "gssapiauthentication"),
    FlagRow("k", "", HONOURED, "GSSAPIDelegateCredentials no.", "gssapidelegatecredentials"),
    FlagRow("L", "forward", REFUSED, "LocalForward.", "localforward"),
    FlagRow("l", "user", HONOURED, "User.", "user"),
    FlagRow("M", "", EMULATED, "ControlMaster.", "controlmaster"),
    FlagRow("m", "macs", HONOURED, "MACs; the last one wins.", "macs"),
    FlagRow("N", "", REFUSED, "pmitogen needs a command to run; remove it."),
    FlagRow("n", "", HARMLESS, "pmitogen uses standard input itself.", "stdinnull"),
    FlagRow("O", "command", REFUSED, "Controls a running ssh: use pmitogen hubs."),
    FlagRow("o", "option", HONOURED, "Any keyword of a configuration file."),
    FlagRow("P", "tag", HONOURED, "Tag.", "tag"),
    FlagRow("p", "port", HONOURED, "Port.", "port"),
    FlagRow("Q", "query", REFUSED, "Prints and exits: run pmitogen ssh -Q."),
    FlagRow("q", "", HONOURED, "LogLevel QUIET.", "loglevel"),
    FlagRow("R", "forward", REFUSED, "RemoteForward.", "remoteforward"),
    FlagRow("S", "path", EMULATED, "ControlPath.", "controlpath"),
    FlagRow("s", "", REFUSED, "pmitogen needs a command, not a subsystem; remove it."),
    FlagRow("T", "", HARMLESS, "No terminal is requested, except for escalation.", "requesttty"),
    FlagRow("t", "", HARMLESS, "No terminal is requested, except for escalation.", "requesttty"),
    FlagRow("V", "", REFUSED, "Prints and exits: run pmitogen --version."),
    FlagRow("v", "", HONOURED, "LogLevel DEBUG; repeat it for more.", "loglevel"),
    FlagRow("W", "host:port", REFUSED, "Only in a ProxyCommand, which becomes a native jump."),
    FlagRow("w", "device", REFUSED, "Tunnel.", "tunnel"),
    FlagRow("X", "", REFUSED, "ForwardX11.", "forwardx11"),
    FlagRow("x", "", HARMLESS, "X11 is not forwarded.", "forwardx11"),
    FlagRow("Y", "", REFUSED, "ForwardX11, trusted.", "forwardx11"),
    FlagRow("y", "", HARMLESS, "Not used: nothing is logged to syslog."),
    FlagRow("Z", "", REFUSED, "Lists public keys and exits; remove it."),
)}
# fmt: on
