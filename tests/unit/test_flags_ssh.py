"""From a command line to Settings: values, expansion, jump hosts, and behaviour that ``ssh -G`` does not show."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from pmitogen.errors import UsageError
from pmitogen.flags.ssh import config_file, file_lines
from pmitogen.flags.ssh.report.explain import explain_ssh
from pmitogen.flags.ssh.resolve import ANSIBLE_DEFAULT_ORIGIN, PMITOGEN_SESSION, resolve, resolve_hop
from pmitogen.flags.ssh.resolve_keywords import resolve_keywords
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.util.caller import CallerEnvironment
from tests.support.ssh_cases import SESSION_FILE, SESSION_LINES

Write = Callable[[str], list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file, and return the flags that name it."""

    def write(text: str) -> list[str]:
        (tmp_path / "config").write_text(text)
        return ["-F", str(tmp_path / "config")]

    return write


def _plain(*args: str, **options: object) -> Settings:
    return resolve(["-F", "none", *args], **options)  # type: ignore[arg-type]


def test_defaults_are_those_of_ssh() -> None:
    settings = _plain("h")
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert (settings.hostname, settings.port, settings.user) == ("h", 22, pwd.getpwuid(os.getuid()).pw_name)
    assert settings.identityfile[0] == f"{home}/.ssh/id_rsa" and not settings.identityfile_explicit
    assert settings.userknownhostsfile == (f"{home}/.ssh/known_hosts", f"{home}/.ssh/known_hosts2")
    assert settings.ciphers == settings.kexalgorithms == settings.hostkeyalgorithms == ()
    assert settings.controlpersist == 0 and settings.controlmaster and settings.serveraliveinterval is None
    assert [finding.option for finding in settings.report] == ["-F"]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("-o StrictHostKeyChecking=off", "stricthostkeychecking", "no"),
        ("-o StrictHostKeyChecking=yes", "stricthostkeychecking", "yes"),
        ("-o StrictHostKeyChecking=accept-new", "stricthostkeychecking", "accept-new"),
        ("-o ConnectTimeout=1m", "connecttimeout", 60),
        ("-o ConnectTimeout=0", "connecttimeout", None),
        ("-o ControlPersist=no", "controlpersist", 0),
        ("-o ControlPersist=yes", "controlpersist", -1),
        ("-o ControlPersist=60s", "controlpersist", 60),
        ("-o ControlPath=none", "controlmaster", False),
        ("-S NONE", "controlmaster", False),
        ("-o ControlMaster=no", "controlmaster", False),
        ("-o ControlMaster=auto", "controlmaster", True),
        ("-o IPQoS=none", "ipqos", ()),
        ("-o IPQoS=af21", "ipqos", (0x48, 0x48)),
        ("-C", "compression", True),
        ("-A", "forwardagent", True),
        ("-o ForwardAgent=/s/%h", "forwardagent_socket", "/s/h"),
        ("-o ForwardAgent=$SOCK", "forwardagent_socket", "/other"),
        ("-A -o ForwardAgent=/s", "forwardagent_socket", "/s"),
        ("-o ForwardAgent=/s -A", "forwardagent_socket", "/s"),
        ("-o ForwardAgent=no -o ForwardAgent=/s", "forwardagent", False),
        ("-o ForwardAgent=no -o ForwardAgent=/s", "forwardagent_socket", None),
        ("-o ForwardAgent=/s -a", "forwardagent", False),
        ("-o IdentityAgent=none", "identityagent", None),
        ("-o IdentityAgent=SSH_AUTH_SOCK", "identityagent", "/agent"),
        ("-o IdentityAgent=$SOCK", "identityagent", "/other"),
        ("-o IdentityAgent=${SOCK}/%r", "identityagent", "/other/me"),
        ("-p 22", "identityagent", "/agent"),
        ("-o IdentityFile=none", "identityfile", ()),
        ("-o IdentityFile=/k/%n-%r-%p", "identityfile", ("/k/h-me-22",)),
        ("-o CertificateFile=${SOCK}.pub", "certificatefile", ("/other.pub",)),
        ("-o UserKnownHostsFile=none", "userknownhostsfile", ()),
        ("-o GlobalKnownHostsFile=none", "globalknownhostsfile", ()),
        ("-o RevokedHostKeys=/r/%k", "revokedhostkeys", ("/r/h",)),
        ("-o RevokedHostKeys=none", "revokedhostkeys", ()),
        ("-o KnownHostsCommand=/c\t%H", "knownhostscommand", "/c\t%H"),
        ("-o KnownHostsCommand=none", "knownhostscommand", None),
        ("-o PreferredAuthentications=password,,publickey", "preferredauthentications", ("password", "publickey")),
        ("-o KbdInteractiveDevices=pam,x", "kbdinteractivedevices", ("pam", "x")),
        ("-o SetEnv=A=%h", "setenv", (("A", "h"),)),
        ("-o SendEnv=LC_*", "sendenv", ("LC_*",)),
        ("-o ServerAliveInterval=0", "serveraliveinterval", 0),
        ("-o ChannelTimeout=session=5m", "channeltimeout", 300),
        ("-o ChannelTimeout=agent*=5m", "channeltimeout", 0),
        ("-o ChannelTimeout=session*=90", "channeltimeout", 90),
        ("-o ChannelTimeout=session:command=90", "channeltimeout", 90),
        ("-o ChannelTimeout=session:shell=90", "channeltimeout", 0),
        ("-o ChannelTimeout=*=90", "channeltimeout", 90),
        ("-o ChannelTimeout=*=90", "channeltimeout_global", 0),
        ("-o ChannelTimeout=global=10m", "channeltimeout", 0),
        ("-o ChannelTimeout=global=10m", "channeltimeout_global", 600),
        ("-o ChannelTimeout\tsession=0\t*=5\tglobal=7", "channeltimeout", 0),
        ("-o ChannelTimeout\tsession=0\t*=5\tglobal=7", "channeltimeout_global", 7),
        ("-o RekeyLimit=1M", "rekeylimit", (1048576, 0)),
        ("-o FingerprintHash=MD5", "fingerprinthash", "md5"),
        ("-o HostKeyAlias=Foo", "hostkeyalias", "foo"),
        ("-o LogLevel=quiet", "loglevel", "QUIET"),
        ("-q", "loglevel", "QUIET"),
        ("-vv", "loglevel", "DEBUG2"),
        ("-E /tmp/log", "logfile", "/tmp/log"),
        ("-o VersionAddendum=on-%l#x", "versionaddendum", None),
        ("-o RefuseConnection=closed", "refuseconnection", "closed"),
        ("-o WarnWeakCrypto=yes", "warnweakcrypto", True),
        ("-o PubkeyAuthentication=unbound", "pubkeyauthentication", True),
        ("-o Ciphers=aes128-ctr,aes256-ctr", "ciphers", ("aes128-ctr", "aes256-ctr")),
        ("-o MACs=-*sha1*,umac*", "macs", None),
        ("-o User=x%n", "user", "xh"),
        ("-o ProxyCommand=nc\t%h\t%p\t%%", "proxycommand", "nc\th\t22\t%"),
        ("-o ProxyCommand=none", "proxycommand", None),
        ("-J a,b@c:5", "proxyjump", (JumpHop("a"), JumpHop("c", "b", 5))),
    ],
)
def test_each_option_sets_its_field(text: str, field: str, value: object) -> None:
    environ = {"SSH_AUTH_SOCK": "/agent", "SOCK": "/other", "HOME": "/nowhere"}
    given = [word.replace("\t", " ") for word in text.split(" ")]
    who = [] if "User" in text else ["-l", "me"]
    settings = resolve([*given, *who, "-F", "none", "h"], caller=CallerEnvironment(environ))
    got = getattr(settings, field)
    if field == "proxyjump":
        got = tuple(hop._replace(argv=()) for hop in got)
    if field == "versionaddendum":
        assert got and got.startswith("on-") and "#" not in got
    elif field == "macs":
        assert got and not any("sha1" in name or "umac" in name for name in got)
    else:
        assert got == (value.replace("\t", " ") if isinstance(value, str) else value)


def test_addresses_and_names_become_canonical() -> None:
    assert _plain("127.1").hostname == "127.0.0.1"
    assert _plain("0:0:0:0:0:0:0:1").hostname == "::1"
    upper = _plain("WEB.Example.com")
    assert (upper.hostname, upper.originalhost) == ("web.example.com", "WEB.Example.com")
    found = _plain("-o", "CanonicalizeHostname=yes", "-o", "CanonicalDomains=nosuch.invalid", "localhost")
    assert found.hostname == "localhost"
    with pytest.raises(UsageError, match="CanonicalDomains"):
        _plain(
            "-o", "CanonicalizeHostname=yes", "-o", "CanonicalDomains=x.invalid", "-o", "CanonicalizeFallbackLocal=no", "nosuch"
        )


def test_the_origin_of_an_argument_is_named() -> None:
    with pytest.raises(UsageError, match=r"^ssh_args: Port: invalid port 'x'"):
        resolve(["-o", "Port=x", "h"], origins=["ssh_args", "ssh_args", "inventory_hostname"])
    with pytest.raises(UsageError, match=r"^ansible_port: -p: "):
        resolve(["-p", "0", "h"], origins=["ansible_port"] * 2)
    with pytest.raises(UsageError, match=r"^command line: -j: unknown flag"):
        resolve(["-j", "h"])


def test_a_keyword_without_a_value_is_shown_in_the_form_of_its_origin(write: Write) -> None:
    with pytest.raises(UsageError, match="^command line: Port: no argument after the keyword; use -o Port=VALUE$"):
        _plain("-o", "Port", "h")
    with pytest.raises(UsageError, match='config line 1: Port: no argument after the keyword; use "Port VALUE"$'):
        resolve([*write("Port\n"), "h"])


def test_an_error_in_a_file_names_the_line(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path}/config line 3: Foo: unknown option"):
        resolve([*write("Host x\n\nFoo bar\nPort x\n"), "h"])
    (tmp_path / "more").write_text("\nPort x\n")
    with pytest.raises(UsageError, match=rf"^{tmp_path}/more line 2: Port: "):
        resolve([*write(f"Include {tmp_path}/more\n"), "h"])


def test_default_ssh_args_of_ansible_are_ignored(write: Write) -> None:
    argv = ["-C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", *write("ControlPersist 10m\n"), "h"]
    origins = [ANSIBLE_DEFAULT_ORIGIN] * 5 + ["ssh_extra_args"] * 2 + ["host"]
    settings = resolve(argv, origins=origins)
    assert (settings.compression, settings.controlpersist) == (False, 600)
    assert [finding.option for finding in settings.report] == ["-F", "ControlPersist"]
    assert resolve(argv).compression and resolve(argv).controlpersist == 60
    with pytest.raises(UsageError, match="default ssh_args"):
        resolve(["-o", "Port=x", "h"], origins=[ANSIBLE_DEFAULT_ORIGIN] * 2)


def test_a_missing_destination_is_reported() -> None:
    assert _plain("-p", "5", default_host="h").hostname == "h"
    with pytest.raises(UsageError, match="host name is missing"):
        _plain("-p", "5")


# -- jump hosts and ProxyCommand --------------------------------------------------------------------------------------------


def route(settings: Settings) -> list[Settings]:
    """Return the settings of every hop in the order of the connections, those of the destination last."""
    chain = [settings]
    while chain[0].proxyjump:
        chain[:0] = [resolve_hop(hop, chain[0]) for hop in chain[0].proxyjump]
    return chain


def test_a_hop_has_its_own_configuration(write: Write) -> None:
    text = "Host a\nPort 1\nUser ua\nIdentityFile /ka\nHost b\nUser ub\nHostName 10.0.0.2\n"
    text += "Host t\nProxyJump a,x@b:7\nUser ut\nPort 9\n"
    flags = write(text)
    settings = resolve([*flags, "-v", "-o", "BindAddress=1.2.3.4", "-i", "/etc/passwd", "t"])
    assert settings.proxyjump == (JumpHop("a", None, None, (*flags, "-v")), JumpHop("b", "x", 7, (*flags, "-v")))
    first, second, last = route(settings)
    assert (first.hostname, first.port, first.user, first.identityfile) == ("a", 1, "ua", ("/ka",))
    assert (second.hostname, second.port, second.user, second.loglevel) == ("10.0.0.2", 7, "x", "DEBUG")
    assert last is settings and first.bindaddress is None and second.bindaddress is None


def test_a_jump_host_may_need_a_jump_host(write: Write) -> None:
    flags = write("Host a\nProxyJump b\nHost b\nProxyCommand nc %h %p\nHost t\nProxyJump a\n")
    assert [one.hostname for one in route(resolve([*flags, "t"]))] == ["b", "a", "t"]
    assert route(resolve([*flags, "t"]))[0].proxycommand == "nc b 22"


def test_an_error_in_the_configuration_of_a_jump_host_is_named(write: Write) -> None:
    settings = resolve([*write("Host t\nProxyJump a\nMatch host a\nUser -bad%x\n"), "t"])
    with pytest.raises(UsageError, match="config line 4: User"):
        resolve_hop(settings.proxyjump[0], settings)
    with pytest.raises(UsageError, match="jump host .* of t"):
        resolve_hop(JumpHop("a b"), settings)


@pytest.mark.parametrize(
    ("command", "hop"),
    [
        ("ssh -W %h:%p jump", JumpHop("jump")),
        ("ssh -q -W '[%h]:%p' u@jump", JumpHop("jump", "u")),
        ("/usr/bin/ssh jump -p 2222 -W %h:%p", JumpHop("jump", None, 2222, ("-p", "2222"))),
        ("exec ssh -oUser=x -i /k -W %h:%p jump 2>/dev/null", JumpHop("jump", "x", None, ("-o", "User=x", "-i", "/k"))),
        ("ssh -F /f -W [%h]:%p -J a ssh://u@b:5", JumpHop("b", "u", 5, ("-F", "/f", "-J", "a"))),
        ("ssh jump nc %h %p", JumpHop("jump", command="nc target 22")),
        ('ssh jump "nc -w 10 %h %p"', JumpHop("jump", command="nc -w 10 target 22")),
        ("ssh -o 'StrictHostKeyChecking no' -W %h:%p jump", JumpHop("jump", None, None, ("-o", "StrictHostKeyChecking no"))),
    ],
)
def test_a_proxycommand_by_ssh_w_becomes_a_jump_host(command: str, hop: JumpHop) -> None:
    settings = _plain("-o", f"ProxyCommand={command}", "target")
    assert settings.proxyjump == (hop,) and settings.proxycommand is None
    (finding,) = [one for one in settings.report if one.option == "ProxyCommand"]
    assert finding.verdict.value == "emulated"


@pytest.mark.parametrize(
    "command",
    [
        "nc %h %p",
        "ssh -W other:22 jump",
        "ssh -W %h:22 jump | tee x",
        "ssh -W %h:%p $JUMP",
        "ssh -W %h:%p",
        "ssh jump nc -e sh %h %p",
        "ssh jump socat - TCP:%h:%p",
        "ssh -W %h:%p jump ls",
        "sshpass -p x ssh -W %h:%p jump",
        "ssh -L 1:a:2 -W %h:%p jump",
        "ssh -j -W %h:%p jump",
        "ssh -W %h:%p `jump`",
        "ssh -w 0 -W %h:%p jump",
    ],
)
def test_other_proxycommands_are_left_to_the_shell(command: str) -> None:
    settings = _plain("-o", f"ProxyCommand={command}", "target")
    assert settings.proxyjump == () and settings.proxycommand == command.replace("%h", "target").replace("%p", "22")


def test_options_of_the_inner_ssh_belong_to_the_jump_host(write: Write) -> None:
    flags = write("Host jump\nUser fromfile\nPort 77\n")
    command = f"ssh {' '.join(flags)} -o IdentityFile=/inner -l me -W %h:%p jump"
    _, target = route(_plain("-o", f"ProxyCommand={command}", "-o", "IdentityFile=/outer", "t"))
    hop = resolve_hop(target.proxyjump[0], target)
    assert (hop.user, hop.port, hop.identityfile) == ("me", 77, ("/inner",))


# -- environment and files --------------------------------------------------------------------------------------------------


def test_resolving_works_without_a_passwd_entry_and_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", missing)
    settings = resolve(["h"], caller=CallerEnvironment({}))
    assert settings.user == f"uid{os.getuid()}" and settings.identityfile == settings.userknownhostsfile == ()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Port 5\n")
    settings = resolve(["h"], caller=CallerEnvironment({"USER": "me", "HOME": str(tmp_path)}))
    assert (settings.user, settings.port) == ("me", 5)
    assert settings.userknownhostsfile[0] == f"{tmp_path}/.ssh/known_hosts"


def test_a_user_file_that_others_can_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = pwd.getpwuid(os.getuid())
    mine = pwd.struct_passwd((entry.pw_name, "x", entry.pw_uid, entry.pw_gid, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: mine)
    config = tmp_path / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text("Port 5\n")
    config.chmod(0o606)
    with pytest.raises(UsageError, match=f"^{config}: bad owner or permissions"):
        resolve(["h"])
    config.chmod(0o600)
    assert resolve(["h"]).port == 5
    assert resolve(["-F", "none", "h"]).port == 22


def test_match_localnetwork_tests_the_addresses_of_this_host(write: Write) -> None:
    flags = write("Match localnetwork 127.0.0.0/8\nPort 1\nMatch localnetwork 203.0.113.0/24\nUser far\n")
    settings = resolve([*flags, "h"])
    assert settings.port == 1 and settings.user != "far"
    with pytest.raises(UsageError, match="line 1: .*10.0.0.1/8"):
        resolve([*write("Match localnetwork 10.0.0.1/8\n"), "h"])


def test_newer_match_criteria_are_supported(write: Write) -> None:
    flags = write("Match tagged a,b\nPort 1\nMatch tagged ''\nPort 2\nMatch version OpenSSH_10.*\nUser v\n")
    flagged = [resolve([*flags, *args, "h"]).port for args in ([], ["-P", "a"], ["-o", "Tag=b"], ["-P", "c"])]
    assert flagged == [2, 1, 1, 22]
    assert resolve([*flags, "h"]).user == "v"
    flags = write("Match sessiontype shell command ''\nPort 3\nMatch !sessiontype shell\nUser x\n")
    assert resolve([*flags, "h"]).port == 3 and resolve([*flags, "-N", "h"], strict=False).user == "x"


@pytest.mark.parametrize(("arguments", "port"), SESSION_LINES)
def test_match_tests_the_requested_session(write: Write, arguments: str, port: int) -> None:
    resolution = resolve_keywords([*write(SESSION_FILE), *arguments.split()])
    assert resolution.options.get("port", 22) == port


def test_match_tests_an_empty_command_and_a_session_type_of_a_file(write: Write) -> None:
    assert resolve_keywords([*write(SESSION_FILE), "h", ""]).options.get("port") == 4
    assert resolve_keywords([*write("SessionType none\n" + SESSION_FILE), "h"]).options.get("port") == 3


def test_match_in_the_second_pass_tests_the_same_command(write: Write) -> None:
    flags = write("Match final command uptime\nPort 7\n")
    assert [resolve_keywords([*flags, "127.0.0.1", name]).options.get("port") for name in ("uptime", "who")] == [7, None]


def test_match_tests_a_fixed_session_of_plays(write: Write) -> None:
    flags = write(SESSION_FILE)
    assert resolve([*flags, "h"], default_session=PMITOGEN_SESSION).port == 5
    assert explain_ssh([*flags, "h"])["options"]["port"] == "5"
    assert explain_ssh([*flags, "h", "uptime"])["options"]["port"] == "1"


@pytest.mark.parametrize(
    ("option", "port"), [("ProxyJump=j", 3), ("ProxyCommand=ssh -W %h:%p j", 3), ("ProxyCommand=ssh j nc %h %p", 6)]
)
def test_match_tests_the_session_of_a_jump_host(write: Write, option: str, port: int) -> None:
    flags = write(SESSION_FILE)
    given = option.replace("ssh ", f"ssh {' '.join(flags)} ")
    settings = resolve([*flags, "-o", given, "-p", "22", "t"])
    assert resolve_hop(settings.proxyjump[0], settings).port == port


def test_include_expands_tokens_and_variables(write: Write, tmp_path: Path) -> None:
    (tmp_path / "h-me").write_text("Port 4\n")
    flags = write("Include ${DIR}/%n-%r\n")
    assert resolve([*flags, "-l", "me", "h"], caller=CallerEnvironment({"DIR": str(tmp_path), "HOME": "/"})).port == 4


def test_a_changed_file_is_read_again(write: Write) -> None:
    assert [resolve([*write(f"Port {port}\n"), "h"]).port for port in (11, 12, 11, 13)] == [11, 12, 11, 13]
    for index in range(file_lines._MAX_TEXTS + 5):
        resolve([*write(f"Port {index + 1}\n"), "h"])
    assert len(file_lines._texts) <= file_lines._MAX_TEXTS


def test_the_system_file_is_read_after_the_user_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "system").write_text("Port 5\nUser s\n")
    monkeypatch.setattr(config_file, "SYSTEM_FILE", str(tmp_path / "system"))
    settings = resolve(["-p", "6", "h"], caller=CallerEnvironment({}))
    assert (settings.port, settings.user) == (6, "s")
