"""Logins with Kerberos tickets: an MIT KDC, OpenSSH's sshd with a keytab, and python-gssapi in .venv-extras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import extras
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.extras import pmitogen
from tests.support.kdc import KDC
from tests.support.sshd import Sshd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_sshd,
    pytest.mark.needs_extra("gssapi"),
    pytest.mark.needs_program("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "klist"),
]
NAME = "server.pmt.test"  # the name in the host's principal


class Realm(NamedTuple):
    """A KDC, a server with a keytab, and an account with a principal."""

    kdc: KDC
    server: Sshd
    account: Account
    ticket: dict[str, str]

    def argv(self, *options: str) -> list[str]:
        """The arguments of a client that has no other credential."""
        values = [f"UserKnownHostsFile={self.server.known_hosts}", "IdentityFile=none", *options]
        args = [word for value in values for word in ("-o", value)]
        return ["-F", "none", "-p", str(self.server.port), *args, f"{self.account.name}@{self.server.host}"]


@pytest.fixture
def realm(short_path: Path, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]) -> Iterator[Realm]:
    kdc, account = KDC(short_path / "kdc").start(), make_account(password=None)
    try:
        kdc.add_host(NAME)
        ticket = kdc.ticket(account.name, kdc.add_user(account.name))
        environment = [f"KRB5_CONFIG={kdc.environment['KRB5_CONFIG']}", f"KRB5_KTNAME={kdc.keytab}", "KRB5RCACHENAME=none:"]
        config = ["GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no", "GSSAPICleanupCredentials yes", "MaxAuthTries 2"]
        server = make_sshd(config=config, wrapper=["env", *environment])
        server.authorized_keys.write_text("")
        yield Realm(kdc, server, account, ticket)
    finally:
        kdc.stop()


GSSAPI = ("GSSAPIAuthentication=yes", f"GSSAPIServerIdentity={NAME}")


def test_a_ticket_logs_in(realm: Realm) -> None:
    mark = realm.server.mark()
    done = pmitogen("ssh", *realm.argv(*GSSAPI), "klist -s; echo $? $KRB5CCNAME", **realm.ticket)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr  # no credentials are delegated by default
    assert realm.server.accepted(mark) == [("gssapi-with-mic", realm.account.name)]


def test_credentials_are_delegated_on_request(realm: Realm) -> None:
    done = pmitogen("ssh", *realm.argv(*GSSAPI, "GSSAPIDelegateCredentials=yes"), "klist -s && klist", **realm.ticket)
    assert done.returncode == 0 and f"{realm.account.name}@PMT.TEST" in done.stdout, done.stderr


def test_a_play_logs_in_with_a_ticket(realm: Realm, short_path: Path) -> None:
    inside = Ansible("extras", extras.PYTHON, short_path / "runs")
    host = inside.target(realm.server, realm.account)
    del host["ansible_ssh_private_key_file"]
    host["ansible_ssh_common_args"] += f" -K -o GSSAPIServerIdentity={NAME}"
    task = {"name": "who", "ansible.builtin.command": "id -un"}
    done = inside.tasks([task], {"h": host}, env=realm.ticket).check()
    assert done.task("who")["stdout"] == realm.account.name


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("GSSAPIAuthentication=yes", "GSSAPIServerIdentity=other.pmt.test"), "not found in Kerberos database"),
        ((*GSSAPI, "GSSAPIClientIdentity=nobody@PMT.TEST"), "not tried"),
    ],
)
def test_an_unusable_ticket_is_reported_as_not_tried(realm: Realm, options: tuple[str, ...], phrase: str) -> None:
    done = pmitogen("ping", *realm.argv(*options), **realm.ticket)
    assert done.returncode == 1 and "gssapi-with-mic: not tried (" in done.stderr
    assert phrase in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_without_a_ticket_the_other_methods_are_tried(realm: Realm) -> None:
    realm.server.authorize(realm.server.key.public)
    argv = realm.argv(*GSSAPI, f"IdentityFile={realm.server.key}")
    done = pmitogen("ping", *argv, **{**realm.ticket, "KRB5CCNAME": f"FILE:{realm.kdc.directory}/none"})
    assert done.returncode == 0, done.stderr


def test_a_ticket_of_another_account_is_refused(realm: Realm, account: Account) -> None:
    argv = [word.replace(realm.account.name + "@", account.name + "@") for word in realm.argv(*GSSAPI)]
    done = pmitogen("ping", *argv, **realm.ticket)
    assert done.returncode == 1 and "gssapi-with-mic: refused" in done.stderr


def test_a_stopped_kdc_is_reported(realm: Realm) -> None:
    realm.kdc.stop()
    done = pmitogen("ping", *realm.argv(*GSSAPI), **realm.ticket)
    assert done.returncode == 1 and "gssapi-with-mic: not tried (" in done.stderr and "KDC" in done.stderr
