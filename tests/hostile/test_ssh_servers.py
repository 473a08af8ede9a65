"""Hostile SSH servers (ssh_server.py), before and after the key check, beside an honest host in one hub.

Each must end its own connection with a one-line reason; the hub grows by less than 32 MiB, and the honest host's commands go
on meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from pmitogen.errors import ConnectError, ConnectionLost
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connect import Connection, connect
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.paramiko_ext.group_exchange import GroupExchange
from tests.hostile import ssh_server
from tests.hostile.ssh_server import RAW, SCRIPTED, NoPython, Session, Sftp, string, u32
from tests.support.keys import make_key
from tests.support.session import repository
from tests.support.sshd import Sshd

MAX_GROWN = 32 << 10  # KiB
MAX_DELAY = 5.0  # seconds for a command that takes some milliseconds, on a busy machine
FLOOD = "sends too many useless messages"
SFTP = "guest@[^ ]*: /file: "

# The reported reason (a regular expression).
EXPECTED = {
    "long_lines": "not an SSH server: received a line of more than 8192 bytes",
    "endless_lines": r"no SSH version in the first 1024 lines, after: hello \| hello \| \.\.\. 1020 more lines",
    "endless_line": "received a line of more than 8192 bytes",
    "nul_in_a_line": r"not an SSH server: received 'hel",
    "version_of_thousands_of_digits": "invalid version line 'SSH-9999",
    "giant_packet": "packet of an invalid length",
    "large_packet": "packet of an invalid length",
    "empty_packets": "packet of an invalid length",
    "ignore_flood_before_keys": FLOOD,
    "debug_flood_before_keys": FLOOD,
    "unknown_messages_before_keys": "unexpected message",
    "ext_info_before_keys": "the key exchange failed",
    "a_hundred_thousand_algorithms": "no kex algorithm in common",
    "algorithms_that_are_not_text": "malformed message",
    "giant_group": "out of range: 2048 to 8192 bits",
    "banner_flood": FLOOD,
    "ext_info_with_four_billion_entries": "4294967295 extensions",
    "ext_info_flood": FLOOD,
    # With request pipelining off, the first surplus answer is an answer to another request.
    "service_accept_flood": f"{FLOOD}|invalid answer from the server: message 6",
    "refusal_flood": "authentication failed",
    "methods_that_alternate": "authentication failed",
    "endless_partial_success": "authentication failed",
    "endless_rounds": "more than 32 rounds of prompts",
    "four_billion_questions": "4294967295 prompts at once",
    "one_endless_question": "authentication failed",
    "disconnect_with_long_text": r"the server says: \\033\[2J",
    "global_request_flood": FLOOD,
    "success_twice": "ConnectionLost",
    "refusals_after_the_login": "unexpected authentication message from the server",
    "banners_after_the_login": FLOOD,
    "host_key_updates": FLOOD,
    # On a busy machine, and with request pipelining off, the flood is not always noticed.
    "ignore_flood": FLOOD + "|Python did not start|the server closed the channel",
    "debug_flood": FLOOD + "|Python did not start|the server closed the channel",
    "unrequested_channels": FLOOD + "|Python did not start",
    "bomb": "more than 262144 decompressed bytes",
    "rekeying": "Python did not start|ConnectionLost",
    "window_ignored": "more than 16 MiB of output before Python started|exceeded the window",
    "window_ignored_on_stderr": "more than 16 MiB of output on stderr|exceeded the window",
    "unknown_stream": "exceeded the window|" + FLOOD,
    "data_of_one_byte": "Python did not start",
    "empty_data": FLOOD,
    "data_beyond_the_packet_size": "200000 bytes of data in one packet; at most 32768 are allowed",
    "data_shorter_than_its_length": "1 bytes of data, but a length of 1048575",
    "window_overflow": "a window that is too large",
    "window_adjust_flood": FLOOD,
    "opened_twice": "unexpected answer from the server for channel",
    "opened_and_refused": "unexpected answer from the server for channel",
    "exit_signals": FLOOD,
    "request_flood": FLOOD + "|Python did not start",
    "data_for_a_closed_channel": "did not start Python|" + FLOOD,
    "data_for_an_unknown_channel": "a channel that does not exist",
    "messages_without_fields": "malformed message|bytes of data, but a length",
    "endless_output": "exceeds 4194304 bytes",
    "file_of_four_exabytes": SFTP + "no",
    "attributes_of_four_billion": SFTP + "no",
    "long_handle": SFTP + "the server gave an invalid file handle",
    "large_sftp_packet": SFTP + "the server sent an SFTP packet of an invalid length",
    "answers_to_nothing": SFTP + "the server answered an SFTP request that was not made",
    "more_data_than_requested": SFTP + "the server gave an invalid answer",
    "no_answer": SFTP + "the server gave an invalid answer",
    "refusal_with_long_text": SFTP + r"\\033\[2J",
}


def work(name: str) -> str:
    """The operation on the host after the login; "python" starts Python."""
    kind = SCRIPTED.get(name, Session)
    return "get" if issubclass(kind, Sftp) else "put" if issubclass(kind, NoPython) else "python"


@contextlib.contextmanager
def program(*argv: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *argv], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.needs_sshd
@pytest.mark.timeout(300)
def test_each_hostile_server_ends_alone(sshd: Sshd, tmp_path: Path) -> None:
    assert set(EXPECTED) == {*RAW, *SCRIPTED}
    with program("-m", "tests.hostile.ssh_server") as server, program("-m", "tests.hostile.beside") as hub:
        assert server.stdout and hub.stdin and hub.stdout
        listening = json.loads(server.stdout.readline())
        ports, known = listening["ports"], tmp_path / "known_hosts"
        known.write_text("".join(f"[127.0.0.1]:{port} {listening['key']}\n" for port in ports.values()))
        hostile = {"UserKnownHostsFile": known, "GlobalKnownHostsFile": "none", "IdentityAgent": "none", "Compression": "yes"}
        args = ["-F", "none", "-i", str(sshd.key.path), *(f"-o{name}={value}" for name, value in hostile.items())]
        tries = [(name, ports[name], work(name)) for name in EXPECTED]
        json.dump({"user": "root", "ssh_args": sshd.ssh_args(), "hostile_args": args, "tries": tries}, hub.stdin)
        hub.stdin.close()
        results = {result["name"]: result for result in map(json.loads, hub.stdout)}
        hub.stdin = None
    wrong = [result for name, result in results.items() if not _is_expected(result)]
    assert not wrong
    assert set(results) == set(EXPECTED)


def _is_expected(result: dict[str, Any]) -> bool:
    ended = str(result["ended"])
    return (
        re.search(EXPECTED[result["name"]], ended) is not None
        and ended.isprintable()
        and len(ended) < 2000
        and result["grown"] < MAX_GROWN
        and result["slowest"] < MAX_DELAY
    )


# One server at a time, in this process


@contextlib.contextmanager
def serving(kind: type[Session]) -> Iterator[Settings]:
    """Settings for a connection to a server of this type."""
    key = paramiko.ECDSAKey.generate()
    sessions: list[Session] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                sessions.append(kind(sock, key))
                sessions[0].serve()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        yield Settings(
            originalhost="target",
            hostname="127.0.0.1",
            user="guest",
            port=port,
            stricthostkeychecking="no",
            userknownhostsfile=("/dev/null",),
            preferredauthentications=("password",),
        )
        listener.shutdown(socket.SHUT_RDWR)
    for session in sessions:
        session.transport.close()
        session.transport.join(5)
    thread.join(5)


def linked(settings: Settings, seconds: float = 20, **changes: Any) -> Connection:
    from pmitogen.transport.auth.credentials import Secret

    credentials = Credentials(password=Secret("secret"))
    return connect(settings._replace(**changes), credentials, jump_hosts=JumpHostPool(), deadline=time.monotonic() + seconds)


def test_a_server_that_exceeds_a_window_is_disconnected() -> None:
    """The tolerance is a tenth of the window, as in OpenSSH."""
    with serving(SCRIPTED["window_ignored"]) as settings:
        link = linked(settings)
        lost = threading.Event()
        reasons: list[str] = []
        link.on_lost(lambda reason: (reasons.append(reason), lost.set())[1])
        channel = link.open_session(5, 1 << 20)
        link.start_command(channel, "true", wait=False)
        assert lost.wait(20)
        assert "the server exceeded the window of a channel" in reasons[0]
        assert len(channel.in_buffer) <= 1.1 * (1 << 20)


def test_all_windows_together_are_bounded() -> None:
    with serving(Session) as settings:
        link = linked(settings)
        windows = [link.open_session(5).window for _ in range(6)]
        assert windows[0] == 16 << 20 and sum(windows) <= (22 << 20) + 4 * (256 << 10)
        link.close()


class SlowLogin(Session):
    def on_auth(self, method: str) -> None:
        time.sleep(2)
        super().on_auth(method)


def test_a_slow_login_is_waited_for() -> None:
    """ConnectTimeout counts until the server's version line only, as in ssh."""
    with serving(SlowLogin) as settings:
        link = linked(settings, connecttimeout=1)
        assert link.stages.auth is not None and link.stages.auth > 1.9
        link.close()


@pytest.mark.parametrize(("interval", "count"), [(1, 1), (0, 3)])
def test_a_login_without_an_answer_ends(interval: int, count: int) -> None:
    """After ServerAliveInterval times ServerAliveCountMax, as in ssh; without these, at the caller's time limit."""

    class Silent(Session):
        def on_auth(self, method: str) -> None:
            pass

    with serving(Silent) as settings:
        began = time.monotonic()
        with pytest.raises(ConnectError, match="authentication failed: no answer from the server within") as caught:
            linked(settings, 2, serveraliveinterval=interval, serveralivecountmax=count)
        assert caught.value.stage == "auth" and "ConnectTimeout" not in caught.value.message
        assert 0.8 < time.monotonic() - began < (1.9 if interval else 4)


class Booting(Session):
    """The messages of pam_nologin while a server starts up."""

    def on_auth(self, method: str) -> None:
        self.send("banner", string("Authorized use only.\n"), string(""))
        text = '"System is booting up. Unprivileged users are not permitted to log in yet.\x1b[2J"\n'
        self.send("banner", string(text), string(""))
        self.send("disconnect", u32(2), string("Access denied for user guest by PAM account configuration"), string(""))


class Locked(Session):
    """Sends a refusal, then its reason."""

    def on_auth(self, method: str) -> None:
        self.send("failure", string("password"), b"\0")
        self.send("banner", string("The account is locked due to 3 failed logins."), string(""))
        self.send("failure", string("password"), b"\0")


def test_the_banner_is_part_of_the_message() -> None:
    with serving(Booting) as settings, pytest.raises(ConnectError) as caught:
        linked(settings)
    denied = (
        "authentication failed: the connection ended: the server says: Access denied for user guest by PAM account configuration"
    )
    banner = '"System is booting up. Unprivileged users are not permitted to log in yet.\\033[2J"'
    assert caught.value.message.endswith(f"{denied}; the server says: {banner}")


class Refusing(Session):
    reasons: tuple[str, ...] = ()

    def on_auth(self, method: str) -> None:
        for reason in self.reasons:
            self.send("banner", string(reason), string(""))
        self.send("failure", string("password,publickey"), b"\0")


def test_the_servers_reason_replaces_the_advice() -> None:
    """A banner before the first refusal is no reason; a later one is."""

    class Late(Refusing):
        def on_auth(self, method: str) -> None:
            self.reasons = () if method == "publickey" else ("Your account has expired.",)
            super().on_auth(method)

    class Early(Refusing):
        reasons = ("Authorized use only.",)

    with serving(Early) as settings, pytest.raises(ConnectError) as caught:
        linked(settings)
    assert "check the user name and the password; the server says: Authorized use only." in caught.value.message
    key = Path(__file__)  # not a key: nothing is offered, so that the first request is the password's
    with serving(Late) as settings, pytest.raises(ConnectError) as caught:
        linked(settings, identityfile=(str(key),))
    assert caught.value.message.endswith("the server says: Your account has expired.")


def test_an_unrequested_refusal_ends_the_login(tmp_path: Path) -> None:
    """It follows the refusal of the key, before or after the request with the password; the banner is always before it."""
    key = make_key(tmp_path / "id")
    with serving(Locked) as settings, pytest.raises(ConnectError, match="The account is locked due to 3 failed logins"):
        linked(settings, preferredauthentications=("publickey", "password"), identityfile=(str(key.path),))


def test_the_last_message_of_a_lost_connection_is_reported() -> None:
    with serving(SCRIPTED["data_for_an_unknown_channel"]) as settings:
        link = linked(settings)
        channel = link.open_session(5)
        link.start_command(channel, "true", wait=False)
        with pytest.raises(ConnectionLost, match="a message for a channel that does not exist"):
            while True:
                link.open_session(5)


# The largest group of RFC 3526, which a server may choose.
GROUP_18 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33"
    "A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864"
    "D87602733EC86A64521F2B18177B200CBBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7"
    "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6287C59474E6BC05D99B2964FA090C3A2"
    "233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA993B4EA988D8FDDC186FFB7DC90A6C08F4DF435C93402849236C3FAB4D27C7026"
    "C1D4DCB2602646DEC9751E763DBA37BDF8FF9406AD9E530EE5DB382F413001AEB06A53ED9027D831179727B0865A8918DA3EDBEBCF9B14ED44CE6CBACED4BB1B"
    "DB7F1447E6CC254B332051512BD7AF426FB8F401378CD2BF5983CA01C64B92ECF032EA15D1721D03F482D7CE6E74FEF6D55E702F46980C82B5A84031900B1C9E"
    "59E7C97FBEC7E8F323A97A7E36CC88BE0F1D45B7FF585AC54BD407B22B4154AACC8F6D7EBF48E1D814CC5ED20F8037E0A79715EEF29BE32806A1D58BB7C5DA76"
    "F550AA3D8A1FBFF0EB19CCB1A313D55CDA56C9EC2EF29632387FE8D76E3C0468043E8F663F4860EE12BF2D5B0B7474D6E694F91E6DBE115974A3926F12FEE5E4"
    "38777CB6A932DF8CD8BEC4D073B931BA3BC832B68D9DD300741FA7BF8AFC47ED2576F6936BA424663AAB639C5AE4F5683423B4742BF1C978238F16CBE39D652D"
    "E3FDB8BEFC848AD922222E04A4037C0713EB57A81A23F0C73473FC646CEA306B4BCBC8862F8385DDFA9D4B7FA2C087E879683303ED5BDD3A062B3CF5B3A278A6"
    "6D2A13F83F44F82DDF310EE074AB6A364597E899A0255DC164F31CC50846851DF9AB48195DED7EA1B1D510BD7EE74D73FAF36BC31ECFA268359046F4EB879F92"
    "4009438B481C6CD7889A002ED5EE382BC9190DA6FC026E479558E4475677E9AA9E3050E2765694DFC81F56E880B96E7160C980DD98EDD3DFFFFFFFFFFFFFFFFF",
    16,
)


def test_the_largest_group_takes_little_time() -> None:
    """All threads of the process wait for it, because Python computes it in one piece."""

    class Transport:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    exchange = GroupExchange(Transport())
    message = paramiko.Message()
    message.add_mpint(GROUP_18)
    message.add_mpint(2)
    began = time.thread_time()
    exchange._parse_kexdh_gex_group(paramiko.Message(message.asbytes()))
    assert time.thread_time() - began < 0.5
    assert exchange.x.bit_length() == 512


def test_every_misbehaviour_is_listed() -> None:
    assert set(EXPECTED) == {*ssh_server.RAW, *ssh_server.SCRIPTED}
