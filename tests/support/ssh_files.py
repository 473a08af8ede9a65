"""Whole configuration files for the oracle, each with its command lines.

``@`` in a text is the test's own directory; its further files are named ``a``, ``b`` and so on.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration file with its command lines."""

    text: str
    queries: tuple[str, ...] = ("h",)
    more: dict[str, str] = dataclasses.field(default_factory=dict)
    modes: dict[str, int] = dataclasses.field(default_factory=dict)


_REAL = """\
# corporate defaults
IgnoreUnknown UseKeychain,AddKeysToAgentX
Include @/a

Host bastion bastion.example.com
    HostName 192.0.2.10
    User jump
    Port 2222
    IdentityFile ~/.ssh/bastion_ed25519
    IdentitiesOnly yes

Host web-* !web-old db?.example.com
    ProxyJump bastion
    User deploy
    SendEnv LANG LC_*
    SetEnv ROLE=web TIER="front end"
    LocalForward 8080 localhost:80
    ServerAliveInterval 30
    ServerAliveCountMax 4

Match host web-01 user root
    IdentityFile ~/.ssh/root_web
    ForwardAgent yes

Match originalhost "github.com,gitlab.com" !user git
    User git
    HostKeyAlgorithms ssh-ed25519
    UseKeychain yes

Match all
    Compression yes

Host *
    ControlMaster auto
    ControlPath ~/.ssh/cm/%r@%h:%p
    ControlPersist 10m
    StrictHostKeyChecking accept-new
    Ciphers -aes128-ctr
    KexAlgorithms ^ecdh-sha2-nistp256
    VisualHostKey no   # trailing comment
    UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts.d/%k
"""

CASES: tuple[Case, ...] = (
    Case("", ("h", "H", "u@h")),
    Case("\n\n  # only\n#comments\n\t\n", ("h",)),
    Case("Port 1\nPort 2\n"),
    Case("Port 22\r\nUser x\r\n"),
    Case("Port 22\f\n"),
    Case("   Port\t =  23   \n"),
    Case("Port=23\nUser=x=y\n"),
    Case("Port\n"), Case("User\nPort 5\n"), Case("Port \n"), Case("Port =\n"), Case("Port '23\n"), Case('Port "23\n'),
    Case('User "a\\"b"\n'), Case("User a#b\n"), Case("User a #b\n"), Case("User #b\n"), Case("User 'a #b'\n"), Case('User "a" "b"\n'),
    Case("User a\\ b\n"), Case("User a\\\\b\n"), Case("User \\a\n"), Case("User '' \n"), Case('"User" x\n'), Case('"User"=x\n'),
    Case('Us"er" x\n'), Case('"User x\n'), Case("=User x\n"), Case(" = User x\n"), Case("User==x\n"), Case("User = =x\n"), Case('User "a\'b"\n'),
    Case("\n\nFoo bar\n"), Case("\n\nPort x\nFoo bar\n"), Case("Port 1\nPort\nPort x\n"), Case("Foo 'x\n"), Case("Port 1 2\n"),
    Case("Host h\nPort x\n"), Case("Host other\n Port x\n"), Case("Host other\n Foo x\n"), Case("Host other\nIgnoreUnknown foo\nHost *\nFoo x\n"),
    Case("Port 22\x00junk\nUser x\n"), Case("User \xe9t\xe9\n"), Case("User x\nHost \xe9\nPort 5\n", ("h", "\xe9")),
    # Host
    Case("Host a\nPort 1\nHost b\nPort 2\nHost *\nPort 3\nUser x\n", ("a", "b", "c")),
    Case("Host a b c\nPort 1\n", ("a", "c", "d")),
    Case("Host * !a\nPort 1\n", ("a", "b")), Case("Host !a *\nPort 1\n", ("a", "b")), Case("Host !a\nPort 1\n", ("a", "b")),
    Case("Host !a !b *\nPort 1\n", ("a", "b", "c")), Case("Host a !a\nPort 1\n", ("a",)),
    Case("Host a*b*c*d\nPort 1\n", ("abcd", "axbxcxd", "abc", "aaaabbbbccccdddd")), Case("Host ?\nPort 1\n", ("a", "ab")),
    Case("Host a?c\nPort 1\n", ("abc", "ac", "abbc")), Case("Host [ab]\nPort 1\n", ("a", "[ab]")), Case("Host A\nPort 1\n", ("a", "A")),
    Case("Host a,b\nPort 1\n", ("a", "a,b", "b")), Case("Host=a\nPort 1\n", ("a",)), Case('Host "a" b\nPort 1\n', ("a", "b")),
    Case("Host a # b\nPort 1\n", ("a", "b", "#")), Case("Host\nPort 1\n"), Case("Host ''\nPort 1\n"), Case("Host a ''\nPort 1\n", ("a", "b")),
    Case("Host # x\nPort 1\n"), Case("Host **\nPort 1\n"), Case("Host h\nHostName %h.example.com\nHost h.example.com\nPort 9\n"),
    Case("Host 10.0.*\nPort 1\n", ("10.0.0.1", "10.1.0.1")), Case("Host *:*\nPort 6\n", ("::1", "h")),
    Case("Port 1\nHost h\nUser x\nPort 2\n", ("h", "i")),
    # Match
    Case("Match all\nPort 1\n"), Case("Match ALL\nPort 1\n"), Case("Match all host h\nPort 1\n"), Case("Match host h all\nPort 1\n"),
    Case("Match host h user u all\nPort 1\n"), Case("Match !all\nPort 1\n"), Case("Match all # x\nPort 1\n"),
    Case("Match\nPort 1\n"), Case("Match host\nPort 1\n"), Case("Match nonsense x\nPort 1\n"), Case("\nMatch # x\n"),
    Case("Match host h\nPort 1\n", ("h", "H", "i")), Case("Match host=h\nPort 1\n", ("h", "i")), Case("Match Host H\nPort 1\n", ("h", "H")),
    Case("Match host a,b,c\nPort 1\n", ("a", "c", "d")), Case("Match host *,!b\nPort 1\n", ("a", "b")), Case("Match host !b\nPort 1\n", ("a", "b")),
    Case("Match !host b\nPort 1\n", ("a", "b")), Case("Match host a user u\nPort 1\n", ("a", "u@a", "u@b")),
    Case("Match host a !user u\nPort 1\n", ("a", "u@a", "u@b")), Case("Match user root\nPort 1\n", ("a", "root@a", "u@a", "-l root a")),
    Case("User u\nMatch user u\nPort 1\n", ("a", "v@a")), Case("Match user u\nPort 1\nMatch all\nUser u\n"),
    Case("Match localuser root\nPort 1\n"), Case("Match localuser x\nPort 1\n"), Case("Match localuser r*t,!root\nPort 1\n"),
    Case("Match originalhost h\nPort 1\n", ("h", "i")), Case("HostName x\nMatch host x\nPort 1\nMatch host h\nPort 2\n"),
    Case("HostName x\nMatch originalhost h\nPort 1\n"), Case("HostName %h.d\nMatch host h.d\nPort 1\n"), Case("HostName %n\nMatch host h\nPort 1\n"),
    Case("Match exec true\nPort 1\n"), Case("Match exec false\nPort 1\n"), Case("Match !exec false\nPort 1\n"), Case('Match exec "exit 3"\nPort 1\n'),
    Case('Match exec "test %h = h"\nPort 1\n', ("h", "i")), Case('Match exec "test %n%p%r%u%L%l%i%d%k = x"\nPort 1\n'), Case("Match exec %q\nPort 1\n"),
    Case('Match exec "kill -9 $$"\nPort 1\n'), Case("Match exec /nonexistent/x\nPort 1\n"), Case("Match exec\nPort 1\n"),
    Case('Match host i exec "touch @/ran"\nPort 1\nMatch exec "test -e @/ran"\nPort 2\n', ("h", "i")),
    Case('Match exec "touch @/ran" host i\nPort 1\nMatch exec "test -e @/ran"\nPort 2\n', ("h",)),
    Case('Host i\nMatch exec "touch @/ran"\nPort 1\nMatch exec "test -e @/ran"\nPort 2\n', ("h",)),
    Case("Match canonical\nPort 1\n"), Case("Match !canonical\nPort 1\n"), Case("Match final\nPort 1\n"), Case("Match !final\nPort 1\n"),
    Case("Match final host h\nPort 1\n", ("h", "i")), Case("HostName x\nMatch final host x\nPort 1\n"), Case("Match canonical final\nPort 1\n"),
    Case("Match host h final\nPort 1\nMatch all\nPort 2\n"), Case("Match final all\nPort 1\n"), Case("Match canonical all\nPort 1\n"),
    Case("Match final\nCanonicalizeMaxDots 7\n"), Case("Match final\nCanonicalizeHostname yes\nCanonicalizeFallbackLocal no\nPort 1\n"),
    Case("CanonicalizeMaxDots 7\nMatch final\nCanonicalizeMaxDots 8\n"),
    Case("Match final\nHostName y\nPort 1\n"), Case("IdentityFile a\nMatch final\nIdentityFile b\n"), Case("SendEnv A\nMatch final\nPort 1\n"),
    Case("LocalForward 1 h:2\nMatch final\nPort 1\n"), Case("Match final\nUser u\n", ("h", "v@h")), Case("Host H\nPort 1\nMatch final\nUser z\n", ("H", "h")),
    Case("CanonicalizeHostname always\nMatch canonical\nPort 1\n", ("127.0.0.1",)), Case("CanonicalizeHostname yes\nMatch host 127.0.0.1\nPort 1\n", ("127.1",)),
    Case("Match host 127.0.0.1\nPort 1\nMatch final\nUser q\n", ("127.1", "127.0.0.1")),
    Case("CanonicalizeHostname yes\nCanonicalizeMaxDots 0\nMatch canonical\nPort 1\n", ("a.b",)),
    Case("CanonicalizeHostname yes\nProxyCommand x\nHost h\nPort 1\nMatch canonical\nUser q\n"),
    Case("CanonicalizeHostname yes\nCanonicalizeFallbackLocal no\nProxyJump j\n"),
    Case("Match host h\nPort x\n"), Case("Match host i\n Port 1\nMatch host h\n Foo\n"), Case("Host h\nMatch host i\nPort 1\nUser x\n"),
    Case('Match host "h" user "root"\nPort 1\n'), Case("Match   host   h   \nPort 1\n"), Case("Match host h # c\nPort 1\n"),
    # Include
    Case("Include @/a\nPort 2\n", more={"a": "Port 1\n"}), Case("Port 2\nInclude @/a\n", more={"a": "Port 1\n"}),
    Case("Include @/a @/b\n", more={"a": "Port 1\n", "b": "Port 2\nUser b\n"}), Case("Include @/[ba]\n", more={"a": "Port 1\n", "b": "Port 2\n"}),
    Case("Include @/*.conf\n", more={"2.conf": "Port 2\n", "1.conf": "Port 1\n", "x": "Foo\n", ".h.conf": "Foo\n"}), Case("Include @/none\nPort 1\n"),
    Case("Include @/none*\n"), Case("Include ''\n"), Case("Include # x\n"), Case('Include "@/a b"\n', more={"a b": "Port 1\n"}),
    Case("Include @/a\\ b\n", more={"a b": "Port 1\n"}), Case("Include @/a @/none\n", more={"a": "Port 1\n"}), Case("Include nonexistent_xyz\n"),
    Case("Include @/a\nPort 3\n", more={"a": "Host i\nPort 1\n"}), Case("Host i\nInclude @/a\nPort 3\n", ("h", "i"), more={"a": "Host h\nPort 1\n"}),
    Case("Host h\nInclude @/a\nPort 3\n", ("h", "i"), more={"a": "Port 1\nHost i\nUser u\n"}),
    Case("Host h\nInclude @/a\nUser v\n", ("h", "i"), more={"a": "Match host i\nPort 1\n"}),
    Case("Host i\nInclude @/a\n", ("h",), more={"a": "Match all\nPort 1\n"}), Case("Host i\nInclude @/a\n", ("h",), more={"a": "\nPort x\n"}),
    Case("Host i\nInclude @/a\n", ("h",), more={"a": "Include @/b\n", "b": "Host *\nPort 1\n"}),
    Case("\nInclude @/a\n", more={"a": "\n\nPort x\n"}), Case("\nInclude @/a\nPort x\n", more={"a": "\nFoo\n"}), Case("Include @/a\n", more={"a": "Include @/a\n"}),
    Case("Include @/a\n", more={"a": "Include @/b\nUser a\n", "b": "Port 9\n"}), Case("Include @/a\n", more={"a": "Port 1\n"}, modes={"a": 0o666}),
    Case("Include @/a\n", more={"a": "Port 1\n"}, modes={"a": 0o620}), Case("Include @/a\n", more={"a": "Port 1\n"}, modes={"a": 0o604}),
    Case("Include @\nPort 1\n"), Case("Include @/a", more={"a": "Port 1"}), Case("Include=@/a\n", more={"a": "Port 1\n"}),
    Case("Include @/?\n", more={"a": "Match final\nPort 1\n", "b": "User x\n"}),
    # First value wins, and values that accumulate
    Case("IdentityFile a\nIdentityFile b\nHost h\nIdentityFile c\n", ("h", "-i /etc/passwd h", "-o IdentityFile=z h")), Case("IdentityFile a\nIdentityFile a\n"),
    Case("CertificateFile a\nCertificateFile b\nCertificateFile a\n"), Case("SendEnv A B\nSendEnv C -A\n"), Case("SendEnv A* B\nSendEnv -A\n"),
    Case("SendEnv AB AC B\nSendEnv -A* D\n"), Case("SendEnv -X\n"), Case("SetEnv A=1\nSetEnv B=2\n"), Case("UserKnownHostsFile a\nUserKnownHostsFile b c\n"),
    Case("GlobalKnownHostsFile a b\nGlobalKnownHostsFile c\n"), Case("LocalForward 1 a:1\nLocalForward 2 b:2\nDynamicForward 3\n"),
    Case("RemoteForward 1 a:1\nRemoteForward 1 a:1\nRemoteForward 2\n"), Case("CanonicalDomains a\nCanonicalDomains b\n"),
    Case("RekeyLimit default none\nRekeyLimit 1G 1h\n"), Case("ConnectTimeout none\nConnectTimeout 3\n"), Case("SyslogFacility AUTH\nHost i\nSyslogFacility USER\n"),
    Case("Host i\nSyslogFacility AUTH\n"), Case("Host i\nStreamLocalBindMask 0111\n"), Case("StreamLocalBindMask 0111\nStreamLocalBindMask 0222\n"),
    Case("LogVerbose a b\nLogVerbose c\n"), Case("PermitRemoteOpen a:1 b:2\nPermitRemoteOpen c:3\n"),
    Case("ProxyJump a\nProxyCommand b\n"), Case("ProxyCommand b\nProxyJump a\n"), Case("ProxyJump none\nProxyJump a\n"), Case("ProxyCommand none\nProxyJump a\n"),
    Case("ProxyJump a\n", ("h", "-J none h", "-J b h", "-o ProxyCommand=x h", "-o ProxyCommand=none h", "a")), Case("ProxyJump @x\n"), Case("Host i\nProxyJump @x\n"),
    Case("ProxyJump a # b\n"), Case("ProxyCommand = nc %h %p\n"), Case("ProxyCommand 'x\n"), Case("Ciphers aes128-ctr\n", ("h", "-c aes256-ctr h")),
    Case("HostKeyAlias FOO\nUserKnownHostsFile /x/%k\nControlPath /y/%k\n"), Case("HostName z\nUserKnownHostsFile /x/%k-%h-%n\n"),
    Case("Port 77\nUser u\nControlPath /%h/%p/%r/%n\n", ("h", "-p 78 h", "v@h", "ssh://w@h:79")), Case("IdentityAgent ${HOME}/x\n"), Case("IdentityAgent ${NO_SUCH_VAR}\n"),
    Case("Host i\nIdentityAgent ${NO_SUCH_VAR}\n"), Case("ControlPath ${NO_SUCH_VAR}\n"), Case("UserKnownHostsFile ~nosuchuser_x/y\n"),
    Case(_REAL, ("bastion", "web-01", "root@web-01", "web-old", "db1.example.com", "github.com", "me@gitlab.com", "x"), more={"a": "Host web-*\n  LogLevel ERROR\n"}),
    Case(_REAL.replace("Port 2222", "Port 222222"), ("x",), more={"a": "#\n"}),
    Case(_REAL.replace("UseKeychain,", ""), ("x",), more={"a": "#\n"}),
    Case("".join(f"Host h{n}\n  Port {n + 1}\n  User u{n}\n  IdentityFile ~/.ssh/k{n}\n" for n in range(2000)) + "Host *\n  Port 9\n", ("h7", "h1999", "x")),
    Case("".join(f"Host h{n}\n  Port {n + 1}\n" for n in range(1000)) + "Prot 9\n", ("h7",)),
    Case("".join(f"IdentityFile /k{n}\n" for n in range(101))), Case("".join(f"IdentityFile /k{n}\n" for n in range(100))),
    Case("UserKnownHostsFile" + " /x" * 33 + "\n"), Case("Host i\nUserKnownHostsFile" + " /x" * 33 + "\n"), Case("User " + "u" * 5000 + "\n"),
)  # fmt: skip
