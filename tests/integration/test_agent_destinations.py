"""Agent keys that ``ssh-add -h`` restricts to destinations: direct, with jump hosts, forwarded, and through a forwarded agent."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmitogen.errors import AuthenticationError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.sessions import exec_command
from tests.support.keys import KeyFile, make_key
from tests.support.links import link_to, settings_for
from tests.support.session import repository
from tests.support.sshd import Sshd

from ._login import add, keygen, ssh_agent

pytestmark = [pytest.mark.needs_sshd, pytest.mark.needs_program("ssh-agent", "ssh-add", "ssh", "ssh-keygen")]
MakeSshd = Callable[..., Sshd]


@pytest.fixture
def key(short_path: Path) -> KeyFile:
    return make_key(short_path / "restricted")


@pytest.fixture
def agent(short_path: Path) -> Iterator[str]:
    with ssh_agent(short_path) as path:
        yield path


def name_of(server: Sshd) -> str:
    return f"[{server.host}]:{server.port}"


def restrict(agent: str, key: KeyFile, *servers: Sshd, **limits: str) -> None:
    """Add *key* to *agent* for these destinations (*limits*: values of ssh-add's option ``-h`` instead)."""
    for server in servers:
        server.authorize(key.public)
    known = [word for server in servers for word in ("-H", str(server.known_hosts))]
    places = limits.values() or map(name_of, servers)
    add(agent, *known, *[word for place in places for word in ("-h", place)], key)


def by_agent(server: Sshd, agent: str, **changes: object) -> Settings:
    return settings_for(server, identityfile=(), identityagent=agent, **changes)


def enter(settings: Settings, **options: object) -> bytes:
    link = link_to(settings, **options)  # type: ignore[arg-type]
    try:
        return exec_command.run(link, "echo in")[1]
    finally:
        link.close()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_restricted_key_opens_its_destination_only(
    make_sshd: MakeSshd, sshd: Sshd, agent: str, short_path: Path, kind: str
) -> None:
    server, key = make_sshd(host_keys=[kind]), make_key(short_path / "restricted", kind)
    restrict(agent, key, server)
    sshd.authorize(key.public)
    assert enter(by_agent(server, agent)) == b"in\n"
    with pytest.raises(AuthenticationError, match="no credentials available|refused"):
        enter(by_agent(sshd, agent))


def test_keys_for_other_destinations_cost_no_attempt(make_sshd: MakeSshd, agent: str, key: KeyFile, short_path: Path) -> None:
    """The agent does not list them: four of them cause no refusal."""
    server, other = make_sshd(), make_sshd()
    for index in range(4):
        restrict(agent, make_key(short_path / f"other{index}"), other)
    restrict(agent, key, server)
    link = link_to(by_agent(server, agent))
    assert [attempt.outcome.value for attempt in link.auth_report.attempts] == ["accepted"]
    link.close()


def test_a_key_restricted_to_an_account_opens_no_other_account(make_sshd: MakeSshd, agent: str, key: KeyFile) -> None:
    server = make_sshd()
    restrict(agent, key, server, place=f"{getpass.getuser()}@{name_of(server)}")
    assert enter(by_agent(server, agent)) == b"in\n"
    with pytest.raises(AuthenticationError, match="agent refused operation"):
        enter(by_agent(server, agent, user="nobody"))


def test_a_restricted_key_opens_each_jump_host(make_sshd: MakeSshd, agent: str, key: KeyFile, jump_hosts: JumpHostPool) -> None:
    """As with ssh -J, every connection begins on the controller."""
    bastion, target = make_sshd(), make_sshd()
    restrict(agent, key, bastion, target)
    settings = by_agent(target, agent, proxyjump=(JumpHop("gate"),))
    assert enter(settings, jump_hosts=jump_hosts, resolver=lambda _hop, _target: by_agent(bastion, agent)) == b"in\n"


def test_a_restricted_key_opens_a_host_with_a_certificate(
    make_sshd: MakeSshd, agent: str, key: KeyFile, short_path: Path
) -> None:
    authority = make_key(short_path / "authority")
    server = make_sshd(config=[f"HostCertificate {short_path}/host-cert.pub"], port=0)
    server.stop()
    (short_path / "host.pub").write_text(server.host_keys[0].public + "\n")
    keygen("-s", authority, "-I", "host", "-h", "-n", f"127.0.0.1,{name_of(server)}", short_path / "host.pub")
    server.start()
    server.known_hosts.write_text(f"@cert-authority {name_of(server)} {authority.public}\n")
    restrict(agent, key, server)
    assert enter(by_agent(server, agent)) == b"in\n"


def ssh_on_target(agent_key: KeyFile, server: Sshd) -> str:
    """Return the command that logs in to *server* from a target, by OpenSSH with the forwarded agent."""
    args = [*server.ssh_args(), "-o", "BatchMode=yes", server.host, "echo there"]
    args[args.index(str(server.key.path))] = f"{agent_key}.pub"
    return "ssh " + shlex.join(args)


@pytest.mark.parametrize("rekeyed", [False, True])
def test_a_forwarded_key_opens_only_its_further_destination(
    make_sshd: MakeSshd, agent: str, key: KeyFile, short_path: Path, rekeyed: bool
) -> None:
    """From the target to one further host, and to no other."""
    target, further, other = make_sshd(), make_sshd(), make_sshd()
    limits = {"a": name_of(target), "b": f"{name_of(target)}>{name_of(further)}"}
    other.authorize(key.public)
    restrict(agent, key, target, further, **limits)
    link = link_to(by_agent(target, agent, forwardagent=True, rekeylimit=(1 << 20 if rekeyed else 0, 0)))
    if rekeyed:
        exec_command.run(link, "head -c 3000000 /dev/zero")
    key.path.unlink()  # so that ssh on the target has only the agent
    try:
        assert exec_command.run(link, ssh_on_target(key, further))[1] == b"there\n"
        assert exec_command.run(link, ssh_on_target(key, other))[0].code != 0
    finally:
        link.close()


def test_a_key_restricted_to_the_target_opens_no_further_host(make_sshd: MakeSshd, agent: str, key: KeyFile) -> None:
    target, further = make_sshd(), make_sshd()
    restrict(agent, key, target, further)  # each from the controller
    link = link_to(by_agent(target, agent, forwardagent=True))
    try:
        assert exec_command.run(link, "ssh-add -l")[0].code != 0  # the agent does not even list it
        assert exec_command.run(link, ssh_on_target(key, further))[0].code != 0
    finally:
        link.close()


LOG_IN = """
import sys, time
from pmitogen.transport.connect import connect
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.flags.ssh.resolve import resolve
settings = resolve(sys.argv[1:])
link = connect(settings, Credentials(), jump_hosts=JumpHostPool(), deadline=time.monotonic() + 20)
print([str(attempt) for attempt in link.auth_report.attempts])
link.close()
"""


@pytest.mark.parametrize("moment", ["in time", "late"])
def test_a_login_with_an_agent_that_was_forwarded_to_the_controller(
    make_sshd: MakeSshd, agent: str, key: KeyFile, short_path: Path, moment: str
) -> None:
    """ssh-agent then requires the host key in the signed data, even before the server has announced its support."""
    controller, target = make_sshd(), make_sshd()
    restrict(agent, key, controller, target, a=name_of(controller), b=f"{name_of(controller)}>{name_of(target)}")
    script = short_path / "log_in.py"
    late = "from pmitogen.transport.paramiko_ext.userauth import UserauthClient as C\nseen = C.binds_host.fget\n"
    late += "C.binds_host = property(lambda self: self.round_trips > 0 and seen(self))\n"
    script.write_text((late if moment == "late" else "") + LOG_IN)
    args = [
        "-F",
        "none",
        "-p",
        str(target.port),
        "-o",
        f"UserKnownHostsFile={target.known_hosts}",
        "-o",
        "GlobalKnownHostsFile=none",
    ]
    command = f"PYTHONPATH={repository} {sys.executable} {script} {shlex.join(args)} {getpass.getuser()}@{target.host}"
    environment = {**os.environ, "SSH_AUTH_SOCK": agent}
    outer = ["ssh", "-A", *controller.ssh_args(), controller.host, command]
    outer[outer.index(str(controller.key.path))] = f"{key}.pub"
    done = subprocess.run(outer, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert "accepted" in done.stdout, done.stderr[-2000:]


def test_signatures_without_a_host_key_are_made_on_request(sshd: Sshd, agent: str, key: KeyFile) -> None:
    """With PubkeyAuthentication=unbound, and for a server without the extension."""
    sshd.authorize(key.public)
    add(agent, key)
    mark = sshd.mark()
    assert enter(by_agent(sshd, agent, pubkeyauthentication_hostbound=False)) == b"in\n"
    assert enter(by_agent(sshd, agent)) == b"in\n"
    assert len(sshd.accepted(mark)) == 2
