"""Words that contradict one another, or leave nothing to work with. Each is said once, with where the word stands.

Fatal are only those that cannot work whatever the server is; the others are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator

from pmitogen.flags.ssh.resolver import Resolution
from pmitogen.flags.ssh.settings import Finding, Verdict
from pmitogen.util.patterns import ascii_lower

OUR_METHODS = ("publickey", "keyboard-interactive", "password")
_SWITCHES = {
    "publickey": "PubkeyAuthentication",
    "keyboard-interactive": "KbdInteractiveAuthentication",
    "password": "PasswordAuthentication",
}


def conflicts(found: Resolution) -> Iterator[Finding]:
    """All contradictions in one destination's options."""
    for option, origin, why in [*found.line.warnings, *found.options.displaced]:
        yield Finding(option, origin.place, Verdict.CONFLICT, why)
    yield from _methods(found)
    yield from _keys(found)
    yield from _host(found)
    yield from _sharing(found)


def _conflict(found: Resolution, key: str, option: str, why: str, fatal: bool = False) -> Finding:
    origin = found.options.origins.get(key)
    return Finding(option, origin.place if origin else "default", Verdict.CONFLICT, why, fatal)


def _off(found: Resolution, method: str) -> bool:
    return found.options.get(_SWITCHES[method].lower()) in (False, "false")


def _methods(found: Resolution) -> Iterator[Finding]:
    written = found.options.get("preferredauthentications")
    wanted = [name for name in written.split(",") if name] if written is not None else list(OUR_METHODS)
    left = [name for name in wanted if name in OUR_METHODS and not _off(found, name)]
    if "none" in wanted:
        return
    if written is not None and not set(wanted) & set(OUR_METHODS):
        why = f"Of these methods we have none; add one of {', '.join(OUR_METHODS)}."
        origin = found.options.origins["preferredauthentications"]
        yield Finding("PreferredAuthentications", origin.place, Verdict.REFUSED, why, fatal=True)
    elif not left:
        named = [name for name in wanted if name in OUR_METHODS]
        key = _SWITCHES[named[0]]
        off = " and ".join(_SWITCHES[name] for name in named)
        why = f"No authentication method is left, for {off} {'is' if len(named) == 1 else 'are'} no: allow one."
        yield _conflict(found, key.lower(), key, why, fatal=True)
    elif found.options.get("batchmode") and "publickey" not in left:
        why = "Only methods that may have to ask for something are left: allow publickey."
        yield _conflict(found, "batchmode", "BatchMode", why)


def _keys(found: Resolution) -> Iterator[Finding]:
    options = found.options
    if options.get("pubkeyauthentication") == "false":
        for key, name in (("identityfile", "IdentityFile"), ("certificatefile", "CertificateFile")):
            origin = options.origins.get(key)
            if origin is not None and origin.explicit:
                yield _conflict(found, key, name, "Is not used, for PubkeyAuthentication is no.")
    agent = options.get("identityagent")
    no_agent = agent == "none" or (agent in (None, "SSH_AUTH_SOCK") and not found.local.environ.get("SSH_AUTH_SOCK"))
    if options.get("forwardagent") is True and no_agent:
        yield _conflict(found, "forwardagent", "ForwardAgent", "There is no agent to forward: start one and set SSH_AUTH_SOCK.")


def _host(found: Resolution) -> Iterator[Finding]:
    options = found.options
    if options.get("canonicalizehostname") != "false" and not options.get("canonicaldomains"):
        why = "Has nothing to try but the name itself: set CanonicalDomains."
        yield _conflict(found, "canonicalizehostname", "CanonicalizeHostname", why)
    if options.get("addressfamily") == "inet" and ":" in found.host:
        yield _conflict(found, "addressfamily", "AddressFamily", f"{found.host} is an IPv6 address, which inet leaves out.")
    if options.get("addressfamily") == "inet6" and found.host.count(".") == 3 and not found.host.strip("0123456789."):
        yield _conflict(found, "addressfamily", "AddressFamily", f"{found.host} is an IPv4 address, which inet6 leaves out.")
    files = [options.get(key, ("",))[:1] for key in ("userknownhostsfile", "globalknownhostsfile")]
    nothing_known = all(first and ascii_lower(first[0]) == "none" for first in files) and found.text("knownhostscommand") is None
    if nothing_known and options.get("stricthostkeychecking", "ask") in ("true", "ask"):
        why = "No host key can be known, for there is neither a known_hosts file nor a KnownHostsCommand: name one."
        yield _conflict(found, "userknownhostsfile", "UserKnownHostsFile", why)


def _sharing(found: Resolution) -> Iterator[Finding]:
    options = found.options
    persists = options.get("controlpersist", -1) >= 0
    origin = options.origins.get("controlpath")
    if persists and origin is not None and ascii_lower(options.get("controlpath")) == "none":
        why = "Has no effect, for ControlPath none keeps connections to one run."
        yield _conflict(found, "controlpersist", "ControlPersist", why)
