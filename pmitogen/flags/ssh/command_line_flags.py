"""Table of the flags of ssh(1): argument and effect in pmitogen. command_line.py applies them."""

from __future__ import annotations

from typing import NamedTuple

from pmitogen.flags.ssh.settings import Verdict

_H, _X, _E, _R = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED


class FlagRow(NamedTuple):
    """One flag. *keyword* names the row of keywords.py that judges it; then the verdict here is only documentation."""

    letter: str
    argument: str  # the name of its argument, or empty
    verdict: Verdict
    effect: str
    keyword: str = ""


# fmt: off
FLAGS: dict[str, FlagRow] = {row.letter: row for row in (
    FlagRow("1", "", _R, "Protocol 1 is not supported."),
    FlagRow("2", "", _X, "Protocol 2 is the only one."),
    FlagRow("4", "", _H, "AddressFamily inet.", "addressfamily"),
    FlagRow("6", "", _H, "AddressFamily inet6.", "addressfamily"),
    FlagRow("A", "", _H, "ForwardAgent yes.", "forwardagent"),
    FlagRow("a", "", _H, "ForwardAgent no.", "forwardagent"),
    FlagRow("B", "interface", _H, "BindInterface.", "bindinterface"),
    FlagRow("b", "address", _H, "BindAddress.", "bindaddress"),
    FlagRow("C", "", _H, "Compression yes.", "compression"),
    FlagRow("c", "ciphers", _H, "Ciphers; the last one wins.", "ciphers"),
    FlagRow("D", "[address:]port", _R, "DynamicForward.", "dynamicforward"),
    FlagRow("E", "file", _E, "Write the log of this connection to the file."),
    FlagRow("e", "char", _X, "Not used: there is no terminal.", "escapechar"),
    FlagRow("F", "file", _H, "Read this file instead of the user's and the system's; none: no file."),
    FlagRow("f", "", _X, "Not used: there is no foreground program.", "forkafterauthentication"),
    FlagRow("G", "", _R, "Prints and exits: run pmitogen explain ssh."),
    FlagRow("g", "", _X, "Not used: there are no forwarded ports.", "gatewayports"),
    FlagRow("I", "library", _H, "PKCS11Provider.", "pkcs11provider"),
    FlagRow("i", "file", _H, "IdentityFile; one that cannot be read is skipped with a warning.", "identityfile"),
    FlagRow("J", "hops", _H, "ProxyJump.", "proxyjump"),
    FlagRow("K", "", _H, "GSSAPIAuthentication and GSSAPIDelegateCredentials yes.", "gssapiauthentication"),
    FlagRow("k", "", _H, "GSSAPIDelegateCredentials no.", "gssapidelegatecredentials"),
    FlagRow("L", "forward", _R, "LocalForward.", "localforward"),
    FlagRow("l", "user", _H, "User.", "user"),
    FlagRow("M", "", _E, "ControlMaster.", "controlmaster"),
    FlagRow("m", "macs", _H, "MACs; the last one wins.", "macs"),
    FlagRow("N", "", _R, "pmitogen needs a command to run: remove it."),
    FlagRow("n", "", _X, "pmitogen uses standard input itself.", "stdinnull"),
    FlagRow("O", "command", _R, "Controls a running ssh: use pmitogen hubs."),
    FlagRow("o", "option", _H, "Any keyword of a configuration file."),
    FlagRow("P", "tag", _H, "Tag.", "tag"),
    FlagRow("p", "port", _H, "Port.", "port"),
    FlagRow("Q", "query", _R, "Prints and exits: run pmitogen ssh -Q."),
    FlagRow("q", "", _H, "LogLevel QUIET.", "loglevel"),
    FlagRow("R", "forward", _R, "RemoteForward.", "remoteforward"),
    FlagRow("S", "path", _E, "ControlPath.", "controlpath"),
    FlagRow("s", "", _R, "pmitogen needs a command, not a subsystem: remove it."),
    FlagRow("T", "", _X, "No terminal is requested, except for escalation.", "requesttty"),
    FlagRow("t", "", _X, "No terminal is requested, except for escalation.", "requesttty"),
    FlagRow("V", "", _R, "Prints and exits: run pmitogen --version."),
    FlagRow("v", "", _H, "LogLevel DEBUG; repeat it for more.", "loglevel"),
    FlagRow("W", "host:port", _R, "Only in a ProxyCommand, which becomes a native jump."),
    FlagRow("w", "device", _R, "Tunnel.", "tunnel"),
    FlagRow("X", "", _R, "ForwardX11.", "forwardx11"),
    FlagRow("x", "", _X, "X11 is not forwarded.", "forwardx11"),
    FlagRow("Y", "", _R, "ForwardX11, trusted.", "forwardx11"),
    FlagRow("y", "", _X, "Not used: nothing is logged to syslog."),
    FlagRow("Z", "", _R, "Prints and exits."),
)}
# fmt: on
