"""Two callers may share a connection if keys and digests of transport/connection_identity.py are equal."""

from __future__ import annotations

import pytest

from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connection_identity import digest
from pmitogen.transport.mux import messages
from pmitogen.util import processes
from pmitogen.util.caller import CallerEnvironment

PLAIN = Settings("h", "h.example", "u")
JUMP = PLAIN._replace(proxyjump=(JumpHop("j"),))
GSSAPI = PLAIN._replace(gssapiauthentication=True, preferredauthentications=("gssapi-with-mic", "publickey", "password"))
OF_ANSIBLE = ("gssapi-with-mic", "gssapi-keyex", "hostbased", "publickey")


@pytest.mark.parametrize(
    ("settings", "variable", "is_shared"),
    [
        (PLAIN, "KEY", True),
        (JUMP, "KEY", False),
        (JUMP._replace(proxyjump=(JumpHop("j", argv=("-F", "/f")),)), "KEY", False),
        (JUMP, "SSH_AUTH_SOCK", False),
        (JUMP, "TMUX", True),
        (PLAIN._replace(proxycommand="p"), "KEY", False),
        (PLAIN._replace(knownhostscommand="k"), "KEY", False),
        (GSSAPI, "KEY", True),
        (GSSAPI, "KRB5CCNAME", False),
        (PLAIN, "KRB5CCNAME", True),
    ],
)
def test_variables_of_the_caller_count_only_if_they_are_used(settings: Settings, variable: str, is_shared: bool) -> None:
    one, other = (settings._replace(caller=CallerEnvironment({"HOME": "/h", variable: value})) for value in "ab")
    assert (digest(one, Credentials()) == digest(other, Credentials())) is is_shared
    assert (messages.digest(one) == messages.digest(other)) is is_shared
    assert (messages.digest_for_hubs(one) == messages.digest_for_hubs(other)) is is_shared


def test_the_directory_of_the_caller_counts_with_a_jump_host() -> None:
    one, other = (JUMP._replace(caller=CallerEnvironment({}, directory)) for directory in ("/a", "/b"))
    assert digest(one, Credentials()) != digest(other, Credentials())


def test_methods_that_ansible_adds_do_not_count() -> None:
    """Kerberos tickets do count: a connection made with them has another identity."""
    assert messages.digest_for_hubs(PLAIN) == messages.digest_for_hubs(PLAIN._replace(preferredauthentications=OF_ANSIBLE))
    assert messages.digest_for_hubs(GSSAPI) == messages.digest_for_hubs(GSSAPI._replace(preferredauthentications=OF_ANSIBLE))
    without = GSSAPI._replace(preferredauthentications=("publickey",))
    assert messages.digest_for_hubs(GSSAPI) != messages.digest_for_hubs(without)


def test_groups_and_namespaces_count_for_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {messages.digest_for_hubs(PLAIN)}
    monkeypatch.setattr(processes, "_namespace", lambda kind: f"{kind}:[1]")
    found.add(messages.digest_for_hubs(PLAIN))
    monkeypatch.setattr(processes.os, "getgroups", lambda: [4711])
    found.add(messages.digest_for_hubs(PLAIN))
    assert len(found) == 3
