"""Find options that contradict each other or leave nothing to connect with.

Only contradictions that no server can resolve are fatal; the others are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator

from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.settings import Finding, Verdict
from pmitogen.util import extras
from pmitogen.util.patterns import ascii_lower

SUPPORTED_METHODS = ("publickey", "keyboard-interactive", "password")
_GSSAPI = "gssapi-with-mic"
_SWITCHES = {
    _GSSAPI: "GSSAPIAuthentication",
    "publickey": "PubkeyAuthentication",
    "keyboard-interactive": "KbdInteractiveAuthentication",
    "password": "PasswordAuthentication",
}


def conflicts(resolution: Resolution) -> Iterator[Finding]:
    """Return the contradictions in one destination's options."""
    for option, origin, reason in [*resolution.line.warnings, *resolution.options.shadowed]:
        yield Finding(option, origin.place, Verdict.CONFLICT, reason)
    yield from _methods(resolution)
    yield from _keys(resolution)
    yield from _host(resolution)
    yield from _sharing(resolution)


def _conflict(resolution: Resolution, key: str, option: str, reason: str, fatal: bool = False) -> Finding:
    origin = resolution.options.origins.get(key)
    return Finding(option, origin.place if origin else "default", Verdict.CONFLICT, reason, fatal)


def _is_disabled(resolution: Resolution, method: str) -> bool:
    return resolution.options.get(_SWITCHES[method].lower(), method != _GSSAPI) in (False, "false")


def _methods(resolution: Resolution) -> Iterator[Finding]:
    written = resolution.options.get("preferredauthentications")
    wanted = [name for name in written.split(",") if name] if written is not None else list(SUPPORTED_METHODS)
    left = [name for name in wanted if name in _SWITCHES and not _is_disabled(resolution, name)]
    if "none" in wanted:
        return
    if left == [_GSSAPI] and not extras.is_installed("kerberos"):
        reason = f"Only gssapi-with-mic is left, which needs a further package: {extras.advice('kerberos')}."
        yield _conflict(resolution, "gssapiauthentication", "GSSAPIAuthentication", reason, fatal=True)
    elif written is not None and not set(wanted) & set(_SWITCHES):
        reason = f"None of these methods is supported; add one of {', '.join(SUPPORTED_METHODS)}."
        origin = resolution.options.origins["preferredauthentications"]
        yield Finding("PreferredAuthentications", origin.place, Verdict.REFUSED, reason, fatal=True)
    elif not left:
        named = [name for name in wanted if name in _SWITCHES]
        key = _SWITCHES[named[0]]
        off = " and ".join(_SWITCHES[name] for name in named)
        reason = f"No authentication method is left, for {off} {'is' if len(named) == 1 else 'are'} no: allow one."
        yield _conflict(resolution, key.lower(), key, reason, fatal=True)
    elif resolution.options.get("batchmode") and not {"publickey", _GSSAPI} & set(left):
        reason = "Only methods that may have to prompt are left: allow publickey."
        yield _conflict(resolution, "batchmode", "BatchMode", reason)


def _keys(resolution: Resolution) -> Iterator[Finding]:
    options = resolution.options
    if options.get("pubkeyauthentication") == "false":
        for key, name in (("identityfile", "IdentityFile"), ("certificatefile", "CertificateFile")):
            origin = options.origins.get(key)
            if origin is not None and origin.explicit:
                yield _conflict(resolution, key, name, "Not used, because PubkeyAuthentication is no.")
    agent = options.get("identityagent")
    no_agent = agent == "none" or (agent in (None, "SSH_AUTH_SOCK") and not resolution.local.environ.get("SSH_AUTH_SOCK"))
    if options.get("forwardagent") is True and no_agent:
        yield _conflict(
            resolution, "forwardagent", "ForwardAgent", "There is no agent to forward: start one and set SSH_AUTH_SOCK."
        )


def _host(resolution: Resolution) -> Iterator[Finding]:
    options = resolution.options
    if options.get("canonicalizehostname") != "false" and not options.get("canonicaldomains"):
        reason = "No effect without CanonicalDomains; set it."
        yield _conflict(resolution, "canonicalizehostname", "CanonicalizeHostname", reason)
    if options.get("addressfamily") == "inet" and ":" in resolution.host:
        yield _conflict(
            resolution, "addressfamily", "AddressFamily", f"{resolution.host} is an IPv6 address, which inet excludes."
        )
    if options.get("addressfamily") == "inet6" and resolution.host.count(".") == 3 and not resolution.host.strip("0123456789."):
        yield _conflict(
            resolution, "addressfamily", "AddressFamily", f"{resolution.host} is an IPv4 address, which inet6 excludes."
        )
    files = [options.get(key, ("",))[:1] for key in ("userknownhostsfile", "globalknownhostsfile")]
    nothing_known = (
        all(first and ascii_lower(first[0]) == "none" for first in files) and resolution.text("knownhostscommand") is None
    )
    if nothing_known and options.get("stricthostkeychecking", "ask") in ("true", "ask"):
        reason = "No host key can be known, because there is neither a known_hosts file nor a KnownHostsCommand: set one."
        yield _conflict(resolution, "userknownhostsfile", "UserKnownHostsFile", reason)


def _sharing(resolution: Resolution) -> Iterator[Finding]:
    options = resolution.options
    persists = options.get("controlpersist", -1) >= 0
    origin = options.origins.get("controlpath")
    if persists and origin is not None and ascii_lower(options.get("controlpath")) == "none":
        reason = "No effect, because ControlPath none limits connections to one run."
        yield _conflict(resolution, "controlpersist", "ControlPersist", reason)
