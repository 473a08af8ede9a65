"""Build Settings from resolved keywords: typed, expanded values for the transport."""

from __future__ import annotations

import os

from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.proxy_to_jump import as_jump_host
from pmitogen.flags.ssh.report.verdicts import findings
from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.settings import METHODS, JumpHop, Settings
from pmitogen.flags.ssh.tokens import expand, expand_tilde
from pmitogen.flags.ssh.values import algorithms
from pmitogen.flags.ssh.values.base import InactiveAgentPath
from pmitogen.flags.ssh.values.compound import QOS_NONE
from pmitogen.flags.ssh.values.numbers import seconds
from pmitogen.util import extras
from pmitogen.util.patterns import ascii_lower, match_pattern

DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_STRICT = {"true": "yes", "false": "no"}
_LISTS = {
    "ciphers": algorithms.CIPHER,
    "macs": algorithms.MAC,
    "kexalgorithms": algorithms.KEX,
    "hostkeyalgorithms": algorithms.KEY,
    "pubkeyacceptedalgorithms": algorithms.KEY,
    "hostbasedacceptedalgorithms": algorithms.KEY,
    "casignaturealgorithms": algorithms.SIGNATURE,
}


def algorithm_list(resolution: Resolution, key: str) -> tuple[str, ...]:
    """Return the algorithms that a keyword's value selects. Raises UsageError."""
    try:
        return resolution.program.catalogue.resolve(_LISTS[key], resolution.options.get(key))
    except ConfigValueError as problem:
        raise resolution.error(key, problem) from None


def build_settings(resolution: Resolution) -> Settings:
    """Return the Settings of a resolution. Raises UsageError."""
    value_of = resolution.options.get
    absolute = resolution.local.caller.absolute
    lists = {key: algorithm_list(resolution, key) if resolution.options.has(key) else () for key in _LISTS}
    hops, command, emulated = _proxy(resolution)
    agent = _agent(resolution)
    forward, forward_socket = _forward_agent(resolution)
    rekey = value_of("rekeylimit", (0, None))
    return Settings(
        originalhost=resolution.original,
        hostname=resolution.host,
        user=resolution.user,
        port=value_of("port", 22),
        addressfamily=value_of("addressfamily", "any"),
        bindaddress=value_of("bindaddress"),
        bindinterface=value_of("bindinterface"),
        connecttimeout=value_of("connecttimeout") or None,
        connectionattempts=value_of("connectionattempts", 1),
        tcpkeepalive=value_of("tcpkeepalive", True),
        ipqos=_qos(value_of("ipqos")),
        proxyjump=hops,
        proxycommand=command,
        versionaddendum=resolution.expanded("versionaddendum", value_of("versionaddendum"), home=False)
        if value_of("versionaddendum")
        else None,
        ciphers=lists["ciphers"],
        macs=lists["macs"],
        kexalgorithms=lists["kexalgorithms"],
        hostkeyalgorithms=lists["hostkeyalgorithms"],
        hostkeyalgorithms_fixed=not str(value_of("hostkeyalgorithms", "")).startswith(("+", "-")),
        pubkeyacceptedalgorithms=lists["pubkeyacceptedalgorithms"],
        casignaturealgorithms=lists["casignaturealgorithms"],
        compression=value_of("compression") == "yes",
        rekeylimit=(rekey[0], rekey[1] or 0),
        requiredrsasize=value_of("requiredrsasize", 1024),
        warnweakcrypto=value_of("warnweakcrypto") == "yes",
        hostkeyalias=value_of("hostkeyalias"),
        stricthostkeychecking=_STRICT.get(value_of("stricthostkeychecking", "ask"), value_of("stricthostkeychecking", "ask")),
        userknownhostsfile=tuple(map(absolute, known_hosts(resolution, "userknownhostsfile"))),
        globalknownhostsfile=tuple(map(absolute, known_hosts(resolution, "globalknownhostsfile"))),
        knownhostscommand=resolution.text("knownhostscommand"),
        knownhostscommand_tokens=tuple(resolution.tokens.items()) if resolution.text("knownhostscommand") else (),
        revokedhostkeys=_paths(resolution, "revokedhostkeys", value_of("revokedhostkeys", ())),
        hashknownhosts=value_of("hashknownhosts", False),
        checkhostip=value_of("checkhostip", False),
        nohostauthenticationforlocalhost=value_of("nohostauthenticationforlocalhost", False),
        fingerprinthash=value_of("fingerprinthash", "SHA256").lower(),
        preferredauthentications=_methods(resolution),
        pubkeyauthentication=value_of("pubkeyauthentication", "true") != "false",
        pubkeyauthentication_hostbound=value_of("pubkeyauthentication", "true") != "unbound",
        passwordauthentication=value_of("passwordauthentication", True),
        kbdinteractiveauthentication=value_of("kbdinteractiveauthentication", True),
        kbdinteractivedevices=tuple(part for part in (value_of("kbdinteractivedevices") or "").split(",") if part),
        gssapiauthentication=_gssapi(resolution),
        gssapidelegatecredentials=value_of("gssapidelegatecredentials", False),
        gssapiserveridentity=value_of("gssapiserveridentity") or None,
        gssapiclientidentity=value_of("gssapiclientidentity") or None,
        identityfile=_identities(resolution),
        identityfile_explicit=resolution.options.has("identityfile"),
        certificatefile=_paths(resolution, "certificatefile", value_of("certificatefile", ())),
        identitiesonly=value_of("identitiesonly", False),
        identityagent=agent,
        pkcs11provider=_pkcs11_library(resolution),
        numberofpasswordprompts=value_of("numberofpasswordprompts", 3),
        batchmode=value_of("batchmode", False),
        forwardagent=forward,
        forwardagent_socket=forward_socket,
        exitonforwardfailure=value_of("exitonforwardfailure"),
        sendenv=value_of("sendenv", ()),
        setenv=tuple(environment(resolution)),
        serveraliveinterval=value_of("serveraliveinterval"),
        serveralivecountmax=value_of("serveralivecountmax", 3),
        channeltimeout=_session_timeout(value_of("channeltimeout", ())),
        channeltimeout_global=_global_timeout(value_of("channeltimeout", ())),
        controlmaster=value_of("controlmaster", "true") != "false" and ascii_lower(value_of("controlpath") or "") != "none",
        controlpath=_control_path(resolution),
        controlpersist={-1: 0, 0: -1}.get(value_of("controlpersist", -1), value_of("controlpersist", -1)),
        refuseconnection=value_of("refuseconnection"),
        loglevel=value_of("loglevel", "INFO").replace("SILENT", "QUIET"),
        logfile=resolution.line.logfile and absolute(resolution.line.logfile),
        caller=resolution.local.caller,
        report=tuple(findings(resolution, emulated)),
    )


def _qos(value: tuple[int, int] | None) -> tuple[int, ...]:
    return () if value is None or QOS_NONE in value else value


def _proxy(resolution: Resolution) -> tuple[tuple[JumpHop, ...], str | None, bool]:
    """Return the hops, the command, and whether the hops come from a command."""
    jump = resolution.jump()
    if jump is not None:
        argv: tuple[str, ...] = () if resolution.line.config is None else ("-F", _config(resolution, resolution.line.config))
        argv += ("-v",) * min(resolution.line.verbose, 3)
        return tuple(JumpHop(host, user, port, argv) for user, host, port in jump.hops()), None, False
    command = resolution.text("proxycommand")
    if command is None:
        return (), None, False
    keys = {letter: resolution.tokens[letter] for letter in "hknpr"}
    try:
        hop = as_jump_host(command, keys, resolution.local)
        return ((hop,), None, True) if hop else ((), expand(command, keys), False)
    except ConfigValueError as problem:
        raise resolution.error("ProxyCommand", problem) from None


def _config(resolution: Resolution, path: str) -> str:
    return path if ascii_lower(path) == "none" else resolution.local.caller.absolute(path)


def _control_path(resolution: Resolution) -> str | None:
    path = resolution.text("controlpath")
    return None if path is None else resolution.path("controlpath", path)


def _agent(resolution: Resolution) -> str | None:
    environ = resolution.local.environ
    value = resolution.options.get("identityagent")
    path = "SSH_AUTH_SOCK" if value is None else resolution.expanded("IdentityAgent", value)
    if path == "none":
        return None
    if path == "SSH_AUTH_SOCK":
        path = environ.get("SSH_AUTH_SOCK") or ""
    elif path.startswith("$") and not path.startswith("${"):
        path = environ.get(path[1:]) or ""
    return resolution.local.caller.absolute(path) or None


def _forward_agent(resolution: Resolution) -> tuple[bool, str | None]:
    value = resolution.options.get("forwardagent", False)
    if not isinstance(value, str):
        return value, None
    path = agent_socket(resolution, value)
    if isinstance(value, InactiveAgentPath):
        return False, None
    if path.startswith("$"):
        path = resolution.local.environ.get(path[1:]) or ""
    return True, resolution.local.caller.absolute(path) or None


def agent_socket(resolution: Resolution, value: str) -> str:
    """Return the path that ForwardAgent's *value* means. Raises UsageError, also where ssh would refuse to connect without it."""
    path = resolution.expanded("ForwardAgent", value)
    if exits_on_failure(resolution) and not os.path.exists(
        resolution.local.caller.absolute(path)
    ):  # $NAME is not expanded, as in ssh
        raise resolution.error("ForwardAgent", f"{path}: No such file or directory; ExitOnForwardFailure is yes")
    return path


def exits_on_failure(resolution: Resolution) -> bool:
    """Return True if the connection fails when a forwarding cannot be set up."""
    return bool(resolution.options.get("exitonforwardfailure", resolution.line.stdio is not None))


def known_hosts(resolution: Resolution, key: str) -> tuple[str, ...]:
    """Return the expanded files of one of the two known_hosts keywords. Raises UsageError."""
    files: tuple[str, ...] | None = resolution.options.get(key) or None
    if files is not None and ascii_lower(files[0]) == "none":
        return ()
    if key == "globalknownhostsfile":
        return files or ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    if files is None and not resolution.local.home:
        return ()
    return tuple(resolution.expanded(key, path) for path in files or ("~/.ssh/known_hosts", "~/.ssh/known_hosts2"))


def _paths(resolution: Resolution, key: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(resolution.path(key, path) for path in paths if ascii_lower(path) != "none")


def _gssapi(resolution: Resolution) -> bool:
    """Return GSSAPIAuthentication; if a file for all sessions sets it, only where it is possible, so that no message is of it."""
    origin = resolution.options.origins.get("gssapiauthentication")
    chosen = bool(resolution.options.get("gssapiauthentication", False))
    return chosen and (extras.is_installed("kerberos") or origin is not None and origin.explicit)


def _pkcs11_library(resolution: Resolution) -> str | None:
    path = resolution.text("pkcs11provider")
    if not path or not extras.is_installed("pkcs11"):
        return None
    return resolution.local.caller.absolute(path) if "/" in path else path


def _identities(resolution: Resolution) -> tuple[str, ...]:
    if resolution.options.has("identityfile"):
        return _paths(resolution, "identityfile", resolution.options.get("identityfile"))
    if not resolution.local.home:
        return ()
    return tuple(expand_tilde(f"~/.ssh/{name}", resolution.local) for name in DEFAULT_IDENTITIES)


def _methods(resolution: Resolution) -> tuple[str, ...]:
    written = resolution.options.get("preferredauthentications")
    if written is None:
        return ("gssapi-with-mic", *METHODS) if _gssapi(resolution) else METHODS
    return tuple(method for method in written.split(",") if method)


def environment(resolution: Resolution) -> list[tuple[str, str]]:
    """Return SetEnv's names and expanded values. Raises UsageError."""
    pairs = []
    for arg in resolution.options.get("setenv", ()):
        name, _, value = arg.partition("=")
        pairs.append((name, resolution.expanded("SetEnv", value, home=False) if resolution.program.modern else value))
    return pairs


def _session_timeout(pairs: tuple[str, ...]) -> int:
    """Return the ChannelTimeout that applies to a session with a command, in seconds: the first match wins; 0: none."""
    for kind, interval in _timeouts(pairs):
        if kind != "global" and (match_pattern("session", kind) or match_pattern("session:command", kind)):
            return interval
    return 0


def _global_timeout(pairs: tuple[str, ...]) -> int:
    return next((interval for kind, interval in reversed(_timeouts(pairs)) if kind == "global"), 0)


def _timeouts(pairs: tuple[str, ...]) -> list[tuple[str, int]]:
    split = [pair.partition("=") for pair in pairs]
    return [(kind, seconds(interval)) for kind, equals, interval in split if equals]
