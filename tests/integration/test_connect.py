"""Connecting to a real sshd: successful connections, the failures of each stage, and the end of a connection."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmitogen.errors import AuthenticationError, ConnectError, ConnectionLost
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.connect import connect, probe_host_key
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.sessions import exec_command
from tests.support.accounts import Account
from tests.support.links import link_to, linked, settings_for
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]


def refusal(settings: Settings, stage: str, limit: float = 5.0) -> str:
    """Return the message of a connection that fails at *stage* within *limit* seconds."""
    began = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        link_to(settings, limit=limit)
    assert time.monotonic() - began < limit + 0.5
    assert caught.value.stage == stage
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{settings.user}@{settings.hostname} port {settings.port}: ")
    return caught.value.message


def answer_every_client(sock: socket.socket, reply: bytes) -> None:
    """Send *reply* to every client and close the connection."""
    while True:
        try:
            caller, _ = sock.accept()
        except OSError:
            return
        with caller:
            caller.sendall(reply)


# -- success ----------------------------------------------------------------------------------------------------------------


def test_a_key_logs_in_and_the_connection_is_described(sshd: Sshd) -> None:
    with linked(sshd) as link:
        assert link.peer == f"{link.settings.user}@127.0.0.1 port {sshd.port}"
        assert link.end_reason is None
        assert link.describe()["cipher"] == "aes128-gcm@openssh.com"
        assert link.describe()["server"].startswith("SSH-2.0-OpenSSH")
        assert link.stages.resolve is not None and link.stages.tcp is not None and link.stages.proxy is None
        assert link.stages.kex and link.stages.auth
        assert exec_command.run(link, "echo hello")[1] == b"hello\n"
        assert link.bytes_sent > 500 and link.bytes_received > 500
    assert link.end_reason == "closed by pmitogen"


def test_a_password_logs_in(sshd: Sshd, account: Account) -> None:
    assert account.password is not None
    link = link_to(settings_for(sshd, user=account.name, identityfile=()), Credentials(password=Secret(account.password)))
    assert exec_command.run(link, "id -un")[1].decode().strip() == account.name
    link.close()


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "chacha20-poly1305@openssh.com"])
@pytest.mark.parametrize("mac", ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"])
def test_each_cipher_and_mac_works(sshd: Sshd, cipher: str, mac: str) -> None:
    with linked(sshd, ciphers=(cipher,), macs=(mac,)) as link:
        assert link.describe()["cipher"] == cipher
        blob = os.urandom(300_000)
        assert exec_command.run(link, "cat", stdin=blob)[1] == blob


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"])
def test_an_authenticated_cipher_needs_no_common_mac(make_sshd: MakeSshd, cipher: str) -> None:
    """As in ssh."""
    server = make_sshd(config=[f"Ciphers {cipher}", "MACs umac-128-etm@openssh.com"])
    with linked(server) as link:
        assert link.describe()["cipher"] == cipher and link.describe()["mac"] == ""
        assert exec_command.run(link, "echo in")[1] == b"in\n"


def test_without_a_common_mac_the_error_has_both_lists(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["Ciphers aes256-ctr", "MACs umac-128-etm@openssh.com"])
    output = refusal(settings_for(server), "kex")
    assert "no MAC algorithm in common: offered hmac-sha2" in output and "the server offers umac-128-etm@openssh.com" in output


def test_a_server_may_require_compression(make_sshd: MakeSshd) -> None:
    """As in ssh, the option Compression does not prevent it. (sshd itself also accepts no compression.)"""
    with linked(make_sshd(), compression=False) as link:
        assert link._transport.preferred_compression == ("none", "zlib@openssh.com")
        assert link.describe()["compression"] == "none"


def test_each_key_exchange_works_with_compression(sshd: Sshd) -> None:
    with linked(sshd, kexalgorithms=("diffie-hellman-group14-sha256",), compression=True) as link:
        assert link.describe()["kex"] == "diffie-hellman-group14-sha256"
        assert link.describe()["compression"] == "zlib@openssh.com"
        before = link.bytes_received
        assert exec_command.run(link, "head -c 1000000 /dev/zero")[1] == bytes(1_000_000)
        assert link.bytes_received - before < 100_000
        blob = os.urandom(100_000)
        assert exec_command.run(link, "cat", stdin=blob)[1] == blob


def test_unavailable_algorithms_in_a_list_are_skipped(sshd: Sshd) -> None:
    with linked(sshd, ciphers=("rijndael-cbc@lysator.liu.se", "aes256-ctr")) as link:
        assert link.describe()["cipher"] == "aes256-ctr"


def test_versionaddendum_is_sent(make_sshd: MakeSshd) -> None:
    server = make_sshd(log_level="DEBUG1")
    with linked(server, versionaddendum="from the test"):
        server.wait_log(r"remote software version paramiko_\S+ from the test")


def test_bindaddress_is_the_source_address(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, bindaddress="127.0.0.7"):
        server.wait_log("Connection from 127.0.0.7 ")


def test_sendenv_and_setenv_reach_the_command(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_SENT", "sent")
    monkeypatch.setenv("LC_SET", "ours")
    with linked(sshd, sendenv=("LC_*",), setenv=(("LC_SET", "set"), ("REFUSED", "x"))) as link:
        assert exec_command.run(link, "echo $LC_SENT $LC_SET $REFUSED")[1] == b"sent set\n"


def test_e_writes_a_log_file(sshd: Sshd, home: Path) -> None:
    path = home / "log"
    with linked(sshd, logfile=str(path), loglevel="DEBUG") as link:
        exec_command.run(link, "true")
    text = path.read_text()
    assert "Cipher: aes128-gcm@openssh.com" in text and link.peer in text
    assert "-E /nonexistent/log" in refusal(settings_for(sshd, logfile="/nonexistent/log"), "local")


def test_weak_algorithms_are_warned_about_on_request(sshd: Sshd) -> None:
    with linked(sshd, kexalgorithms=("ecdh-sha2-nistp256",), warnweakcrypto=True) as link:
        assert len(link.warnings) == 1 and "ecdh-sha2-nistp256" in link.warnings[0].text
    with linked(sshd, kexalgorithms=("ecdh-sha2-nistp256",)) as link:
        assert link.warnings == ()


def test_the_host_key_is_shown_without_a_login(make_sshd: MakeSshd) -> None:
    server = make_sshd(host_keys=["ed25519", "ecdsa"])
    for name, key in zip(("ssh-ed25519", "ecdsa-sha2-nistp256"), server.host_keys, strict=True):
        shown = probe_host_key(settings_for(server), (name,), jump_hosts=JumpHostPool(), deadline=time.monotonic() + 5)
        assert key.public == public_key.public_line(shown.blob)
        assert shown.server.startswith("SSH-2.0-OpenSSH") and shown.offered == ("ssh-ed25519", "ecdsa-sha2-nistp256")
    with pytest.raises(ConnectError, match="no host key algorithm in common"):
        probe_host_key(settings_for(server), ("rsa-sha2-512",), jump_hosts=JumpHostPool(), deadline=time.monotonic() + 5)


# -- failures ---------------------------------------------------------------------------------------------------------------


def test_a_closed_port_is_reported(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    settings = settings_for(server)
    server.stop()
    assert "Connection refused" in refusal(settings, "tcp")


def test_an_unknown_name_is_reported(sshd: Sshd) -> None:
    assert "cannot resolve" in refusal(settings_for(sshd, hostname="no-such-host.invalid"), "resolve", 15)


@pytest.mark.parametrize("connecttimeout", [None, 1])
def test_a_silent_server_is_reported_in_time(sshd: Sshd, connecttimeout: int | None) -> None:
    """The limit is the shorter of ConnectTimeout and the caller's own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = settings_for(sshd, port=server.getsockname()[1], connecttimeout=connecttimeout)
        began = time.monotonic()
        output = refusal(settings, "kex", 1.0 if connecttimeout is None else 30)
        assert 0.9 < time.monotonic() - began < 1.6
        assert "no SSH version received within " in output


@contextlib.contextmanager
def sending_first(server: Sshd, *pieces: bytes | float) -> Iterator[int]:
    """A port that first sends *pieces* (a number: pauses for so many seconds) and then forwards to *server*."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                caller, _ = listener.accept()
                with caller:
                    for piece in pieces:
                        caller.sendall(piece) if isinstance(piece, bytes) else time.sleep(piece)
                    with socket.create_connection((server.host, server.port)) as there:
                        back = threading.Thread(target=copy, args=(there, caller))
                        back.start()
                        copy(caller, there)
                        back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"hello\r\n", 2.6),
        (b"hello\r\n", 0.3, b"wor", 0.3, b"ld\n", 0.3),
        (b"hello\r\n" * 1000,),
        (b"x" * 8192 + b"\r\n",),
    ],
    ids=["pause", "pieces", "many", "long"],
)
def test_lines_before_the_version_are_skipped(sshd: Sshd, pieces: tuple[bytes | float, ...]) -> None:
    with sending_first(sshd, *pieces) as port:
        known = f"[127.0.0.1]:{sshd.port}"
        with linked(sshd, port=port, hostkeyalias=known, connecttimeout=5) as link:
            assert exec_command.run(link, "echo in")[1] == b"in\n"


def test_lines_without_a_version_are_reported(sshd: Sshd) -> None:
    with sending_first(sshd, b"hello\r\nwor", 2.0) as port:
        output = refusal(settings_for(sshd, port=port, connecttimeout=1), "kex", 5)
    assert "no SSH version received within 1 s (ConnectTimeout); it sent: hello | wor; is port" in output


def test_a_server_that_is_silent_after_its_version_is_reported(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = settings_for(sshd, port=server.getsockname()[1])

        def greet() -> None:
            caller, _ = server.accept()
            with caller:
                caller.sendall(b"SSH-2.0-Frozen\r\n")
                caller.settimeout(5)
                while caller.recv(4096):
                    pass

        thread = threading.Thread(target=greet)
        thread.start()
        assert "the key exchange did not complete within" in refusal(settings, "kex", 1.0)
        thread.join()


def test_a_server_that_is_not_ssh_is_reported(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_every_client, args=(server, b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        thread.start()
        output = refusal(settings_for(sshd, port=server.getsockname()[1]), "kex")
        assert "before an SSH version; it sent: HTTP/1.1 400 Bad Request; is port" in output
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_without_a_common_cipher_the_error_has_both_lists(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["Ciphers aes256-ctr"])
    output = refusal(settings_for(server, ciphers=("aes128-ctr", "aes128-gcm@openssh.com")), "kex")
    assert "no cipher algorithm in common: offered aes128-ctr,aes128-gcm@openssh.com; the server offers aes256-ctr;" in output
    assert "Ciphers=+aes256-ctr" in output


def test_without_a_common_kex_the_error_has_both_lists(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["KexAlgorithms diffie-hellman-group14-sha256"])
    output = refusal(settings_for(server, kexalgorithms=("ecdh-sha2-nistp256",)), "kex")
    assert "offered ecdh-sha2-nistp256; the server offers diffie-hellman-group14-sha256;" in output


def test_a_list_of_unavailable_algorithms_is_refused(sshd: Sshd) -> None:
    output = refusal(settings_for(sshd, macs=("umac-64@openssh.com",)), "kex")
    assert "MACs umac-64@openssh.com: no supported algorithm; use some of hmac-sha" in output


def test_a_refused_key_is_reported(sshd: Sshd, make_key: Callable[..., object]) -> None:
    with pytest.raises(AuthenticationError):
        link_to(settings_for(sshd, identityfile=(str(make_key()),)))


def test_refuseconnection_refuses_the_connection(sshd: Sshd) -> None:
    assert "RefuseConnection: not from here" in refusal(settings_for(sshd, refuseconnection="not from here"), "local")


# -- a busy server ----------------------------------------------------------------------------------------------------------


def test_a_connection_closed_early_is_retried_and_then_reported(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmitogen.transport.connect_limits.MAX_ATTEMPTS", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_every_client, args=(server, b""))
        thread.start()
        output = refusal(settings_for(sshd, port=server.getsockname()[1]), "kex")
        assert "closed the connection before the key exchange, 3 times" in output and "MaxStartups" in output
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_hundred_connections_at_once_succeed_within_maxstartups(make_sshd: MakeSshd, jump_hosts: JumpHostPool) -> None:
    server = make_sshd(config=["MaxStartups 10:30:60"])
    settings = settings_for(server)
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(100) as pool:
        links = list(pool.map(lambda _: connect(settings, Credentials(), jump_hosts=jump_hosts, deadline=deadline), range(100)))
    assert all(link.end_reason is None for link in links)
    for link in links:
        link.close()


def test_a_server_at_maxstartups_is_retried(make_sshd: MakeSshd) -> None:
    """Other controllers occupy all unauthenticated connections for a while."""
    server = make_sshd(config=["MaxStartups 3:100:3"])
    others = [socket.create_connection((server.host, server.port)) for _ in range(3)]
    for other in others:
        other.recv(100)
    timer = threading.Timer(1.0, lambda: [other.close() for other in others])
    timer.start()
    began = time.monotonic()
    with linked(server) as link:
        assert link.end_reason is None
    assert time.monotonic() - began >= 0.8
    timer.join()


# -- sessions ---------------------------------------------------------------------------------------------------------------


def test_data_may_follow_the_command_request_without_a_reply(sshd: Sshd) -> None:
    with linked(sshd) as link:
        channel = link.open_session(5)
        link.start_command(channel, b"cat", wait=False)
        channel.sendall(b"abc")
        channel.shutdown_write()
        assert channel.recv(10) == b"abc"
        assert channel.recv(10) == b""
        channel.close()


def test_a_refused_command_is_reported(sshd: Sshd) -> None:
    """sshd refuses a second command on one channel."""
    with linked(sshd) as link:
        channel = link.open_session(5)
        link.start_command(channel, "cat", wait=True)
        with pytest.raises(ConnectError, match="refused the request"):
            link.start_command(channel, "true", wait=True)
        other = link.open_session(5)
        link.start_command(other, "cat", wait=False)
        link.start_command(other, "true", wait=False)
        assert other.recv(1) == b""
        assert other.refusal_reason == "the server refused the request"


@pytest.mark.parametrize(
    "send_late",
    [
        lambda channel: channel.sendall(b"late"),
        lambda channel: channel.shutdown_write(),
        lambda channel: channel.request("signal", encode_string("TERM"), want_reply=False),
    ],
    ids=["data", "end of input", "request"],
)
def test_no_message_follows_the_close_of_a_channel(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, send_late: Callable[[Channel], None]
) -> None:
    """A thread is delayed while the server closes the channel; OpenSSH would disconnect at a later message."""
    with linked(sshd) as link:
        transport = link._transport
        send, ready = transport._send_user_message, []
        channel = link.open_session(5)
        link.start_command(channel, "sleep 0.2", wait=True)
        with monkeypatch.context() as patch:
            patch.setattr(
                transport,
                "_send_user_message",
                lambda message: send(message) if transport.handles_messages_here else ready.append(message),
            )
            send_late(channel)
            with transport.channel_closed:
                assert transport.channel_closed.wait_for(lambda: transport.close_count, 5)
        (message,) = ready
        send(message)
        assert exec_command.run(link, "echo alive")[1] == b"alive\n"


def test_sessions_beyond_maxsessions_wait(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["MaxSessions 2"])
    with linked(server) as link, ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda n: exec_command.run(link, f"sleep 0.1; echo {n}")[1], range(8)))
        assert outputs == [f"{n}\n".encode() for n in range(8)]
        held = [link.open_session(5), link.open_session(5)]
        with pytest.raises(ConnectError, match="MaxSessions") as caught:
            link.open_session(0.5)
        assert caught.value.stage == "exec"
        for channel in held:
            channel.close()
        link.open_session(5).close()


def test_a_session_that_opens_after_its_timeout_is_closed(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    with linked(server) as link:
        server.freeze()
        with pytest.raises(ConnectError, match="no answer within the timeout"):
            link.open_session(0.3)
        server.thaw()
        assert exec_command.run(link, "echo in", timeout=5)[1] == b"in\n"


def test_a_server_without_sessions_is_reported(make_sshd: MakeSshd) -> None:
    with linked(make_sshd(config=["MaxSessions 0"])) as link:
        began = time.monotonic()
        with pytest.raises(ConnectError, match="refuses a session"):
            link.open_session(10)
        assert time.monotonic() - began < 1


# -- the end ----------------------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_reported_once_with_a_reason(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server) as link:
        reasons: list[str] = []
        happened = threading.Event()
        link.on_lost(reasons.append)
        link.on_lost(lambda _: happened.set())
        channel = link.open_session(5)
        link.start_command(channel, "cat", wait=True)
        server.kill_sessions()
        assert happened.wait(5)
        assert reasons == [f"{link.peer}: the server closed the connection"]
        assert channel.recv(1) == b""
        with pytest.raises(ConnectionLost, match="the server closed the connection"):
            link.open_session(5)
        late: list[str] = []
        link.on_lost(late.append)
        assert late == reasons


def test_close_is_quick_and_reports_no_loss(sshd: Sshd) -> None:
    reasons: list[str] = []
    with linked(sshd) as link:
        link.on_lost(reasons.append)
        channel = link.open_session(5)
        link.start_command(channel, "cat", wait=True)
        began = time.monotonic()
        link.close()
        link.close()
        assert time.monotonic() - began < 0.2
        with pytest.raises(ConnectionLost, match="closed by pmitogen"):
            link.open_session(5)
    assert not reasons


def test_a_forked_child_leaves_the_connection_alone(sshd: Sshd) -> None:
    with linked(sshd) as link:
        channel = link.open_session(5)
        link.start_command(channel, "cat", wait=True)
        read_end, write_end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads are intended here
            child = os.fork()
        if not child:
            try:
                del channel
                gc.collect()
                os.write(write_end, b"lost" if link.end_reason or not link._transport.active else b"live")
                link.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read_end, 4) == b"lost"
        os.close(read_end)
        os.close(write_end)
        channel.sendall(b"still here")
        assert channel.recv(100) == b"still here"
