"""Jump hosts and ProxyCommand: each hop has its own settings, one connection for each hop, and the shell runs ProxyCommand."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmitogen.errors import AuthenticationError, ConnectError, ConnectionLost, UsageError
from pmitogen.flags.ssh.resolve import resolve
from pmitogen.flags.ssh.settings import JumpHop
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.connect import connect
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.sessions import exec_command
from tests.support import programs
from tests.support.accounts import Account
from tests.support.keys import KeyFile
from tests.support.links import link_to, settings_for, through
from tests.support.processes import wait_until
from tests.support.session import repository
from tests.support.sshd import Sshd, find_sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]
MakeKey = Callable[..., KeyFile]


# -- jumps ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["-J", "file", "ProxyCommand"])
def test_a_jump_host_has_its_own_key_user_and_known_hosts(
    form: str,
    make_sshd: MakeSshd,
    make_account: Callable[..., Account],
    make_key: MakeKey,
    home: Path,
    jump_hosts: JumpHostPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No ssh program is on PATH."""
    bastion, target = make_sshd(), make_sshd()
    people = {"hop": (make_account(), make_key(), bastion), "target": (make_account(), make_key("ecdsa"), target)}
    text = ""
    for name, (account, key, server) in people.items():
        account.write(".ssh/authorized_keys", key.public + "\n")
        text += f"Host {name}\n HostName 127.0.0.1\n Port {server.port}\n User {account.name}\n IdentityFile {key.path}\n"
        text += f" UserKnownHostsFile {server.known_hosts}\n IdentitiesOnly yes\n"
        text += " ProxyJump hop\n" if (form, name) == ("file", "target") else ""
    config = home / "config"
    config.write_text(text + "Host *\n StrictHostKeyChecking yes\n GlobalKnownHostsFile /dev/null\n")
    args = {"-J": ["-J", "hop"], "file": [], "ProxyCommand": ["-o", f"ProxyCommand=ssh -F {config} -W %h:%p hop"]}[form]
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(home))
        link = link_to(resolve(["-F", str(config), *args, "target"]), jump_hosts=jump_hosts)
    assert exec_command.run(link, "id -un; echo $SSH_CONNECTION")[1].split()[0].decode() == people["target"][0].name
    assert link.stages.proxy is not None and link.stages.tcp is None
    link.close()
    assert [user for _, user in bastion.accepted()] == [people["hop"][0].name]
    assert [user for _, user in target.accepted()] == [people["target"][0].name]


@pytest.mark.parametrize(
    ("command", "native"),
    [
        ("ssh -F ~/bs.cfg -W %h:%p hop", True),
        ("ssh -F $CONFIG -W %h:%p hop", True),
        ('exec ssh -F "${HOME}/bs.cfg" -W [%h]:%p hop 2>/dev/null', True),
        ("ssh -F '$HOME'/bs.cfg -W %h:%p hop", False),  # no such file, for ssh either
        ("ssh -F $(echo ~/bs.cfg) -W %h:%p hop", False),
        ("ssh -F ~/bs.cfg -W %h:%p hop | cat", False),
    ],
)
def test_a_proxycommand_that_needs_a_shell_is_not_made_a_jump(
    make_sshd: MakeSshd, home: Path, jump_hosts: JumpHostPool, monkeypatch: pytest.MonkeyPatch, command: str, native: bool
) -> None:
    """Without an ssh program on PATH it fails with one line that names the alternative."""
    bastion, target = make_sshd(), make_sshd()
    options = f" UserKnownHostsFile {bastion.known_hosts}\n GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n"
    text = f"Host hop\n HostName 127.0.0.1\n Port {bastion.port}\n IdentityFile {bastion.key.path}\n{options}"
    (home / "bs.cfg").write_text(text)
    monkeypatch.setenv("CONFIG", str(home / "bs.cfg"))
    args = [*target.ssh_args(), "-o", f"ProxyCommand={command}", "127.0.0.1"]
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(home))
        settings = resolve(args)
        if native:
            link_to(settings, jump_hosts=jump_hosts).close()
        else:
            with pytest.raises((ConnectError, UsageError)) as caught:
                link_to(settings, jump_hosts=jump_hosts)
            assert "\n" not in caught.value.message
            if "'" not in command:
                assert "no ssh program was found; use ProxyJump, or ssh -W" in caught.value.message
    assert bastion.connections() == native
    if not native and "'" not in command:
        link_to(resolve(args), jump_hosts=jump_hosts).close()  # with the ssh program
        assert bastion.connections() == 1


def test_a_chain_of_three_hosts_works(make_sshd: MakeSshd, jump_hosts: JumpHostPool) -> None:
    servers = [make_sshd() for _ in range(3)]
    first, second, last = (settings_for(server) for server in servers)
    settings, resolver = through(last, first, second)
    link = link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    assert exec_command.run(link, "echo $SSH_CONNECTION")[1].split()[3].decode() == str(last.port)
    blob = b"x" * 3_000_000
    assert exec_command.run(link, "cat", stdin=blob)[1] == blob
    assert [server.connections() for server in servers] == [1, 1, 1]
    link.close()
    assert len(jump_hosts.connections()) == 2


def test_twenty_targets_behind_one_bastion_use_one_connection_to_it(make_sshd: MakeSshd, jump_hosts: JumpHostPool) -> None:
    bastion, target = make_sshd(config=["MaxSessions 1"]), make_sshd()
    settings, resolver = through(settings_for(target), settings_for(bastion))
    deadline = time.monotonic() + 30
    with ThreadPoolExecutor(20) as pool:
        links = list(
            pool.map(
                lambda _: connect(settings, Credentials(), jump_hosts=jump_hosts, deadline=deadline, resolver=resolver), range(20)
            )
        )
    assert all(exec_command.run(link, "echo ok")[1] == b"ok\n" for link in links)
    assert bastion.connections() == 1
    assert target.connections() == 20
    for link in links:
        link.close()


def test_a_lost_bastion_ends_its_targets_and_is_reconnected(make_sshd: MakeSshd, jump_hosts: JumpHostPool) -> None:
    bastion, target = make_sshd(), make_sshd()
    settings, resolver = through(settings_for(target), settings_for(bastion))
    link = link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    reasons: list[str] = []
    link.on_lost(reasons.append)
    bastion.kill_sessions()
    limit = time.monotonic() + 5
    while not reasons and time.monotonic() < limit:
        time.sleep(0.01)
    assert f"port {target.port}: the connection to the jump host " in reasons[0] and f"port {bastion.port} ended: " in reasons[0]
    assert link.end_reason
    again = link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    assert exec_command.run(again, "echo ok")[1] == b"ok\n"
    again.close()
    assert bastion.connections() == 2


def test_the_targets_password_is_not_sent_to_the_bastion(make_sshd: MakeSshd, account: Account, jump_hosts: JumpHostPool) -> None:
    assert account.password is not None
    bastion, target = make_sshd(), make_sshd()
    only = {"user": account.name, "identityfile": ()}
    settings, resolver = through(settings_for(target, **only), settings_for(bastion, **only))
    credentials = Credentials(password=Secret(account.password))
    with pytest.raises(AuthenticationError, match=f"port {bastion.port}"):
        link_to(settings, credentials, jump_hosts=jump_hosts, resolver=resolver)
    assert "Failed password" not in bastion.log()


def test_a_target_that_the_bastion_cannot_reach_is_reported(make_sshd: MakeSshd, jump_hosts: JumpHostPool) -> None:
    bastion, target = make_sshd(), make_sshd()
    settings, resolver = through(settings_for(target), settings_for(bastion))
    target.stop()
    with pytest.raises(ConnectError) as got:
        link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    assert got.value.stage == "proxy"
    assert f"port {bastion.port}: the jump host cannot reach 127.0.0.1 port {target.port}: " in got.value.message
    assert "Connection refused" in got.value.message


def test_forbidden_forwarding_is_reported(make_sshd: MakeSshd, sshd: Sshd, jump_hosts: JumpHostPool) -> None:
    settings, resolver = through(settings_for(sshd), settings_for(make_sshd(config=["AllowTcpForwarding no"])))
    with pytest.raises(ConnectError, match="AllowTcpForwarding"):
        link_to(settings, jump_hosts=jump_hosts, resolver=resolver)


def test_a_circle_of_jump_hosts_is_refused(sshd: Sshd, jump_hosts: JumpHostPool) -> None:
    settings = settings_for(sshd, proxyjump=(JumpHop("myself"),))
    with pytest.raises(ConnectError, match="form a loop"):
        link_to(settings, jump_hosts=jump_hosts, resolver=lambda _hop, _target: settings)


def test_a_closed_pool_makes_no_connection(sshd: Sshd, jump_hosts: JumpHostPool) -> None:
    jump_hosts.close()
    settings, resolver = through(settings_for(sshd), settings_for(sshd, user=getpass.getuser()))
    with pytest.raises(ConnectError, match="the run is ending"):
        link_to(settings, jump_hosts=jump_hosts, resolver=resolver)


# -- ProxyCommand -----------------------------------------------------------------------------------------------------------

RELAY = """exec python3 -c '
import os, socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while d := os.read(0, 65536): s.sendall(d)
    s.shutdown(1)
threading.Thread(target=up, daemon=True).start()
while d := s.recv(65536):
    d = memoryview(d)
    while d: d = d[os.write(1, d):]
' "$PORT" """


@pytest.mark.needs_program("python3")
def test_proxycommand_runs_in_the_users_shell(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("PORT", str(sshd.port))
    script = home / "relay.sh"
    script.write_text(RELAY)
    link = link_to(
        settings_for(
            sshd,
            hostname="not.resolved.invalid",
            hostkeyalias=f"[127.0.0.1]:{sshd.port}",
            proxycommand=f'sh "{script}" 2>/dev/null',
        )
    )
    assert exec_command.run(link, "echo ok")[1] == b"ok\n"
    link.close()
    assert link.end_reason == "closed by pmitogen"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("sh -c 'echo no route to the moon >&2; exit 7'", "exited with status 7, stderr: no route to the moon"),
        ("true", "exited with status 0 without output on stderr"),
        ("no-such-program-at-all", "exited with status 127, stderr: "),
        ("sh -c 'kill -9 $$'", "was killed by signal 9"),
    ],
)
def test_the_error_output_of_a_proxycommand_is_in_the_message(sshd: Sshd, command: str, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        link_to(settings_for(sshd, proxycommand=command))
    assert caught.value.stage == "proxy"
    assert text in caught.value.message and "\n" not in caught.value.message
    assert time.monotonic() - began < 3


def test_a_silent_proxycommand_is_ended_at_the_deadline_with_its_children(sshd: Sshd) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectError, match="no SSH version"):
        link_to(settings_for(sshd, proxycommand="sh -c 'sleep 77 | sleep 78'"), limit=1)
    assert time.monotonic() - began < 2


@pytest.fixture
def relay(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, home: Path) -> str:
    """A ProxyCommand to *sshd* that leaves its process number in ``~/pid``."""
    monkeypatch.setenv("PORT", str(sshd.port))
    (home / "relay.sh").write_text(f"echo $$ > {home}/pid\n{RELAY}")
    return f"sh {home}/relay.sh"


@pytest.mark.needs_program("bash", "python3")
def test_a_noisy_start_file_of_bash_is_not_read(sshd: Sshd, relay: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """bash reads it if its standard input is a socket and it is the outermost shell."""
    (home / ".bashrc").write_text("echo welcome\n")
    monkeypatch.setenv("SHELL", programs.find_program("bash") or "bash")
    monkeypatch.delenv("SHLVL", raising=False)
    link = link_to(settings_for(sshd, proxycommand=f"bash -c '{relay}; true'"))
    assert exec_command.run(link, "echo ok")[1] == b"ok\n"
    link.close()


@pytest.mark.needs_root
def test_sshd_on_its_standard_streams_knows_no_address(sshd: Sshd) -> None:
    """As with ssh: OpenSSH's own tests of a ProxyCommand look for it."""
    command = f"{find_sshd()} -i -f {sshd.directory / 'config'} -E /dev/null"
    link = link_to(settings_for(sshd, proxycommand=command))
    assert exec_command.run(link, "echo $SSH_CONNECTION")[1] == b"UNKNOWN 65535 UNKNOWN 65535\n"
    link.close()


@pytest.mark.needs_program("python3")
def test_much_data_in_both_directions_through_a_program(sshd: Sshd, relay: str) -> None:
    link = link_to(settings_for(sshd, proxycommand=relay))
    data = os.urandom(20_000_000)
    ended, out, _ = exec_command.run(link, "tee /dev/null", stdin=data, max_output=len(data))
    assert ended.status == 0 and out == data
    link.close()


@pytest.mark.needs_program("python3")
@pytest.mark.parametrize("busy", [False, True])
def test_a_program_that_is_killed_ends_the_connection(sshd: Sshd, relay: str, home: Path, busy: bool) -> None:
    link = link_to(settings_for(sshd, proxycommand=relay))
    reasons: list[str] = []
    link.on_lost(reasons.append)
    timer = threading.Timer(0.3, os.kill, (int((home / "pid").read_text()), signal.SIGKILL))
    timer.start()
    pieces = (bytes(1 << 20) if busy else time.sleep(0.05) or b"x" for _ in range(10_000))
    with pytest.raises(ConnectionLost, match="the server closed the connection"):
        exec_command.run(link, "cat > /dev/null", stdin=pieces)
    timer.join()
    wait_until(lambda: reasons)
    assert "the server closed the connection" in reasons[0]


@pytest.mark.needs_program("python3")
def test_closing_while_a_program_reads_nothing(sshd: Sshd, relay: str, home: Path) -> None:
    """The threads that write and read end, and so does the program, which is stopped."""
    link = link_to(settings_for(sshd, proxycommand=relay))
    pid = int((home / "pid").read_text())
    ends: list[BaseException] = []

    def send() -> None:
        try:
            exec_command.run(link, "cat > /dev/null", stdin=(bytes(1 << 20) for _ in range(10_000)))
        except ConnectionLost as error:
            ends.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.3)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)
    began = time.monotonic()
    link.close()
    thread.join(5)
    link.wait_closed(5)
    assert not thread.is_alive() and time.monotonic() - began < 2
    assert "closed by pmitogen" in str(ends[0])
    os.kill(pid, signal.SIGCONT)


@pytest.mark.needs_program("python3")
def test_a_program_of_the_library_that_forgets_the_connection_ends_quietly(sshd: Sshd, relay: str) -> None:
    """Paramiko stops the threads of its connections at the end of the interpreter."""
    program = (
        "from tests.support.links import link_to\n"
        "from pmitogen.flags.ssh.resolve import resolve\n"
        "import sys\n"
        "link = link_to(resolve(sys.argv[1:]))\n"
        "print(link.describe()['server'])\n"
    )
    argv = [*sshd.ssh_args(), "-o", f"ProxyCommand={relay}", sshd.host]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith("SSH-2.0-") and done.stderr == ""


@pytest.mark.needs_program("python3")
def test_a_forked_child_does_not_keep_a_program(sshd: Sshd, relay: str, home: Path) -> None:
    """A child that outlives the connection holds no end of the program's pipes."""
    link = link_to(settings_for(sshd, proxycommand=f"sh -c \"trap '' TERM; exec {relay}\""))
    pid = int((home / "pid").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads are the point
        child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(0)
    try:
        link.close()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 5)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
