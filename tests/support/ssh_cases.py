"""Hand-written cases for the oracle: values, command lines and configuration files for every known difficulty.

``WORDS``: values for each keyword, each given once with ``-o`` and once in a file. ``LINES``: command lines. ``FILES``: whole
files with the host for each. No case depends on a name that a resolver would have to know.
"""

from __future__ import annotations

_FLAGS = (
    "BatchMode CanonicalizeFallbackLocal CheckHostIP EnableSSHKeysign ClearAllForwardings ExitOnForwardFailure ForwardX11"
    " ForwardX11Trusted GatewayPorts GSSAPIAuthentication GSSAPIDelegateCredentials HashKnownHosts HostbasedAuthentication"
    " IdentitiesOnly KbdInteractiveAuthentication NoHostAuthenticationForLocalhost PasswordAuthentication PermitLocalCommand"
    " ProxyUseFdpass StdinNull ForkAfterAuthentication StreamLocalBindUnlink VisualHostKey EnableEscapeCommandline"
)
_KEYS = (
    "ssh-rsa|+ssh-rsa|-ssh-rsa*|^ssh-rsa,ssh-ed25519|ssh-*|*|+*|-*|^*-cert*|ssh-ed25519,rsa-sha2-512|nonsense|+nonsense"
    "|-nonsense|rsa-sha2-512,|ssh-rsa,,nonsense|^|+|-|?sh-rsa|ecdsa-sha2-nistp256,ecdsa-sha2-*"
)
_EMPTY_KEYS = "RSA|ed25519|,|!ssh-rsa|+!ssh-rsa"  # an empty list; OpenSSH 9 reports that for host keys only

WORDS: dict[str, str] = {
    **dict.fromkeys(_FLAGS.split(), "yes|no|maybe"),
    "TCPKeepAlive": "yes|no|true|false|YES|False|1|maybe|yes no|''",
    "AddKeysToAgent": "yes|no|ask|confirm|confirm 5m|5m|1h30m|yes 5m|ask 5m|maybe|0|confirm x|true|FALSE",
    "AddressFamily": "any|inet|inet6|INET|ipv4|inet inet6",
    "BindAddress": "10.0.0.1|::1|a b|\"a b\"|'x'",
    "BindInterface": "eth0|''|a b",
    "CanonicalDomains": "example.com|Example.COM b.org|none|none x|a..b|-x|a_b.c|example.com.|x# y|\"\"",
    "CanonicalizeHostname": "no|false|sometimes",
    "CanonicalizeMaxDots": "0|1|5|-1|x|2147483647|2147483648|1 2",
    "CanonicalizePermittedCNAMEs": "none|none x|*|a:b|*.A.com:*.B.com,C.com|a|a:|:b|a:b c:d|a:b none",
    "CASignatureAlgorithms": "ssh-ed25519|+ssh-rsa|-ssh-ed25519|rsa-sha2-512,ssh-ed25519|nonsense|^ssh-rsa|-rsa*",
    "CertificateFile": "~/.ssh/id-cert.pub|/a/b|none|a b|\"a b\"|%d/c|${HOME}/c",
    "Ciphers": "aes128-ctr|+aes128-cbc|-aes*|^aes256-ctr|aes*|nonsense|+nonsense|-nonsense|aes128-ctr,aes128-ctr|aes128-ctr,3des-cbc|3des-cbc,"
    "|^aes256-ctr,3des-cbc|none|+none|AES128-CTR|aes128-gcm@openssh.com|-*|'aes128-ctr'|\"aes128-ctr,aes256-ctr\"",
    "Compression": "yes|no|true|YES|6|delayed",
    "ConnectionAttempts": "1|5|0|-1|x|99999999999|+3|0x10| 4",
    "ConnectTimeout": "10|10s|1m|1h30m|2d|1w|0|none|NONE|-1|x|1x|1h 30m|99999999999|1M2H|m|s5",
    "ControlMaster": "yes|no|auto|ask|autoask|AUTO|x|true|false",
    "ControlPath": "none|/tmp/%r@%h:%p|~/.ssh/cm-%C|%n-%l-%L-%i-%u-%k-%d|%%|%|%q|${HOME}/x|${NOPE_XYZ}/x|a b|\"/a b/%h\"|NONE",
    "ControlPersist": "yes|no|0|60|60s|1h|true|FALSE|x|-1|YES",
    "DynamicForward": "1080|*:1080|127.0.0.1:1080|[::1]:1080|x|0|1080 x|/tmp/s|99999|:1080|a:b:c",
    "EscapeChar": "none|~|^]|^A|x|xx|\"#\"|^|^^|%|'\\\\'|None",
    "FingerprintHash": "md5|sha256|SHA1|sha512|crc",
    "ForwardAgent": "yes|no|/tmp/agent|$SSH_AUTH_SOCK|${HOME}|${NOPE_XYZ}|$A-B|~/sock|%d/a",
    "ForwardX11Timeout": "10|1h|0|none|x",
    "GlobalKnownHostsFile": "/etc/a|/etc/a /etc/b|none|none /etc/a|\"/a b\"|''",
    "GSSAPIKexAlgorithms": "gss-gex-sha1-|gss-gex-sha1-x,gss-nistp256-sha256-|gss-gex-sha1-,,x|gss-x|+gss-gex-sha1-|,x|gss-gex-sha1",
    "HostbasedAcceptedAlgorithms": _KEYS,
    "HostKeyAlgorithms": f"{_KEYS}|{_EMPTY_KEYS}",
    "HostKeyAlias": "Alias|a b|\"A B\"|''",
    "HostName": "10.1.2.3|%h.example.com|%%h|%n|%|EXAMPLE.org|127.1|::1|0x7f.1|fe80::1%lo|[::1]|a b",
    "IdentityAgent": "none|SSH_AUTH_SOCK|$FOO|~/a|%d/a|/a/%r/%h|${HOME}/x|${NOPE_XYZ}|$|$A B|\"/a b\"|$A-B",
    "IdentityFile": "~/.ssh/a|/a/%h|none|\"a b\"|a b|${HOME}/x|'it''s'|\"a\\\"b\"|a\\ b|a\\\\b",
    "IgnoreUnknown": "foo|foo,bar*|''",
    "IPQoS": "cs1|af21 cs1|none|lowdelay throughput|0x10|16|255|256|EF|ef x|le|reliability|8 16|cs0 cs7",
    "KbdInteractiveDevices": "pam,bsdauth|a b",
    "KexAlgorithms": "curve25519-sha256|+diffie-hellman-group1-sha1|-*sha2*|^ecdh-sha2-nistp256|nonsense|curve25519-sha256,nonsense|*",
    "KnownHostsCommand": "/bin/echo %H|none|\"a b\" c|/bin/x '|= /bin/x",
    "LocalCommand": "echo %h|none|a # b|\"x",
    "LocalForward": "8080 localhost:80|*:8080 h:80|127.0.0.1:1 h:2|[::1]:1 [::2]:2|8080|8080 x|8080 h:0|0 h:1|/tmp/s h:80|8080 /tmp/t"
    "|/tmp/a /tmp/b|8080:h:80|x h:80|1 2 3|${HOME}/s h:1|/tmp/%h.sock h:1|70000 h:1",
    "LogLevel": "QUIET|fatal|Error|INFO|verbose|DEBUG|DEBUG1|DEBUG2|DEBUG3|DEBUG4|x",
    "LogVerbose": "kex.c:*|a b|none|none a",
    "MACs": "hmac-sha2-256|+hmac-md5|-hmac-*|^umac-64@openssh.com|nonsense|*|hmac-sha2-256,x",
    "NumberOfPasswordPrompts": "1|0|x|-3",
    "PermitRemoteOpen": "any|none|h:1|h:1 [::1]:2|h:*|h|h:x|none h:1|any none|*:*",
    "PKCS11Provider": "/usr/lib/x.so|none|a b",
    "Port": "22|2222|0|65535|65536|-1|x|ssh|https|22 23|+22|022|''",
    "PreferredAuthentications": "publickey|publickey,password|x|a b",
    "ProxyCommand": "nc %h %p|none|NONE|ssh -W %h:%p jump|/usr/bin/nc -X 5 %h %p # not a comment|\"unbalanced|'a b' c|= nc|=nc %h",
    "ProxyJump": "jump|u@jump|u@jump:2222|a,b,c|a:1,u@b:2|ssh://u@h:22|[::1]:22|u@[::1]|::1|none|None|@x|u@|a,,b|a:x|a:0|jump # x|10.0.0.1"
    "|ssh://h/path|ssh://u%40x@h|a@b@c|,a|a,|ssh://a,ssh://b:3",
    "PubkeyAcceptedAlgorithms": _KEYS,
    "PubkeyAuthentication": "yes|no|unbound|host-bound|TRUE|x",
    "RekeyLimit": "1G|512M|1G 1h|default|default none|default 10m|16|15|0|x|1K 0|1.5G|1G x|1g|10B|1 2 3|-1|1E|9E|1KB|1G 10m30s",
    "RemoteCommand": "ls -l|none|echo %h %n %p %r %u|%x|a # b",
    "RemoteForward": "8080|8080 h:80|0 h:80|*:0 h:80|/tmp/s /tmp/t|[::1]:22 h:22|x|8080 h|8080 h:x|1080 socks:5",
    "RequestTTY": "yes|no|force|auto|x|TRUE",
    "RequiredRSASize": "2048|0|x|99999999999",
    "SecurityKeyProvider": "internal|none|$X|/usr/lib/y.so",
    "SendEnv": "LANG|LANG LC_*|A=B|-LANG|A -A B|LANG -L*|''",
    "ServerAliveCountMax": "3|0|x|1 2",
    "ServerAliveInterval": "15|1m|0|none|x|1.5",
    "SessionType": "none|default|subsystem|x|None",
    "SetEnv": "A=1|A=1 B=2|A=1 A=2|\"A=x y\"|A|A=|A=\"x y\" B='z'|=x|A=%h",
    "StreamLocalBindMask": "0177|0|777|1000|8|x|0o17|-1|17x| 7",
    "StrictHostKeyChecking": "yes|no|ask|off|accept-new|true|false|OFF|x|Accept-New",
    "SyslogFacility": "USER|auth|LOCAL7|AUTHPRIV|x",
    "Tunnel": "yes|no|ethernet|point-to-point|x|TRUE|Ethernet",
    "TunnelDevice": "any|any:any|0|1:2|any:3|x|1:|:1|ANY:0|-1|2147483643|2147483644",
    "UpdateHostKeys": "yes|no|ask|x",
    "User": "root|a b|\"a b\"|'x y'|dom\\\\user|dom\\user|-x|a;b|%x|\"\"",
    "UserKnownHostsFile": "~/a|/dev/null|~/a ~/b|none|none x|%d/k|%h-%p-%r-%n|%q|${HOME}/k|\"/a b\" c|~nosuchuser_xyz/k|~root/k",
    "VerifyHostKeyDNS": "yes|no|ask|x",
    "XAuthLocation": "/usr/bin/xauth|a b",
    # Keywords without effect, alternative names, and unknown ones
    "Protocol": "2|1,2|x y z", "Cipher": "3des", "UseRoaming": "no", "UsePrivilegedPort": "yes", "CompressionLevel": "6",
    "RhostsRSAAuthentication": "no", "RSAAuthentication": "yes", "AFSTokenPassing": "x", "KerberosAuthentication": "yes no",
    "FallBackToRsh": "no", "UserKnownHostsFile2": "x", "GlobalKnownHostsFile2": "x",
    "ChallengeResponseAuthentication": "no|x", "SkeyAuthentication": "no", "TISAuthentication": "no", "DSAAuthentication": "no",
    "KeepAlive": "no", "IdentityFile2": "/x", "HostbasedKeyTypes": "ssh-rsa", "PubkeyAcceptedKeyTypes": "+ssh-rsa",
    "SmartcardDevice": "/x.so", "Nonsense": "x", "Prot": "2", "Host": "x", "Match": "all", "Include": "x", "Ho st": "x",
}  # fmt: skip

LINES: tuple[str, ...] = (
    "h", "u@h", "u@h@i", "ssh://h", "ssh://u@h:2222", "ssh://h/", "ssh://h/p", "ssh://u%20v@h", "ssh://@h", "ssh://", "ssh://h:x",
    "ssh://u;x=y@h", "ssh://[::1]:22", "H", "u@H.Example.COM", "10.0.0.1", "127.1", "::1", "fe80::1%lo", "u@::1", "[::1]", "", "@h", "-- h",
    "h -p 22", "h -p 23 ls", "h -- -p 23", "-p 23 h", "-p23 h", "-p 23 -p 24 h", "-p x h", "-p 23 -p x h", "-p 0 h", "h -px",
    "-o Port=23 -p 24 h", "-p 24 -o Port=23 h", "-l a h", "-la h", "-l a b@h", "b@h -l a", "-o User=c b@h", "b@h -o User=c", "-l -x h",
    "-l a;b h", "'a b'", "a;b", "$x", "-4 h", "-6 h", "-46 h", "-64 h", "-o AddressFamily=inet -6 h", "-6 -o AddressFamily=inet h", "-2 h", "-1 h",
    "-A h", "-a h", "-Aa h", "-aA h", "-o ForwardAgent=no -A h", "-A -o ForwardAgent=no h",
    "-A -o ForwardAgent=/x h", "-o ForwardAgent=/x -A h", "-a -o ForwardAgent=/x h", "-o ForwardAgent=/x -a h",
    "-o ForwardAgent=yes -o ForwardAgent=/x h", "-o ForwardAgent=no -o ForwardAgent=/x h", "-o ForwardAgent=/x -o ForwardAgent=/y h",
    "-C h", "-o Compression=no -C h",
    "-C -o Compression=no h", "-v h", "-vv h", "-vvv h", "-vvvv h", "-q h", "-qv h", "-vq h", "-qvv h", "-o LogLevel=ERROR -v h",
    "-v -o LogLevel=ERROR h", "-vvA -p 1 h", "-Cvp23 h", "-CvpX h", "-x h", "-X h", "-Y h", "-xY h", "-g h", "-n h", "-f h", "-f h ls", "-N h",
    "-T h", "-t h", "-tt h", "-ttt h", "-tT h", "-s h", "-s h sftp", "-N -s h", "-s -N h", "-o SessionType=default -N h", "-K h", "-k h", "-Kk h",
    "-M h", "-MM h", "-MMM h", "-S /tmp/x h", "-S none h", "-o ControlPath=/a -S /b h", "-S /b -o ControlPath=/a h", "-b 1.2.3.4 h",
    "-b a -b c h", "-B eth0 h", "-o BindAddress=x -b y h", "-c aes128-ctr h", "-c x h", "-c aes128-ctr -c aes256-ctr h",
    "-o Ciphers=aes128-ctr -c aes256-ctr h", "-c aes256-ctr -o Ciphers=aes128-ctr h", "-c +3des-cbc h", "-c -aes128-ctr h", "-c ^aes256-ctr h",
    "-m hmac-sha1 h", "-m x h", "-m +hmac-sha1 h", "-m hmac-sha1,hmac-md5 -m hmac-sha2-256 h", "-e none h", "-e ^x h", "-e xy h", "-e x h",
    "-e ^B h", "-i /nonexistent h", "-i /etc/passwd h", "-i /etc/passwd -i /etc/group h", "-i /etc/passwd -i /etc/passwd h",
    "-i/etc/passwd -o IdentityFile=/x h", "-I /x.so h", "-I /x -I /y h", "-J j h", "-J u@j:1,k h", "-J none h", "-J a -J b h",
    "-o ProxyCommand=x -J a h", "-J a -o ProxyCommand=x h", "-J a -o ProxyJump=b h", "-o ProxyJump=b -J a h", "-o ProxyJump=none -o ProxyCommand=x h",
    "-o ProxyCommand=x -o ProxyJump=b h", "-o ProxyCommand=none -o ProxyJump=b h", "-J '' h", "-J h h", "-J h -p 2222 h", "-J x@h -l x h",
    "-J h:22 h", "-o ProxyCommand=none h", "-o ProxyJump=none h", "-J a:0 h", "-J [::1] h", "-J 1.2.3.4:5 h",
    "-L 1:h:2 h", "-L x h", "-L 1:h:2 -L 1:h:2 h", "-L *:1:h:2 h", "-L /a:/b h", "-R 1:h:2 h", "-R 1 h", "-R 0:h:1 h", "-R x h", "-D 1 h", "-D a:1 h",
    "-D 1:2:3 h", "-L 1:h:2 -o ClearAllForwardings=yes h", "-o LocalForward='1 h:2' -L 3:h:4 h", "-w 1:2 h", "-w any h", "-w x h", "-o Tunnel=ethernet -w 0 h",
    "-w 0 -o TunnelDevice=5 h", "-W a:1 h", "-W a h", "-W [::1]:22 h", "-W a:1 -L 1:h:2 h", "-W a:1 -W b:2 h", "-W a:1 -o ClearAllForwardings=no h",
    "-o ForwardAgent=/nonexistent -o ExitOnForwardFailure=yes h", "-W a:1 -o ForwardAgent=~/nonexistent h",
    "-o ForwardAgent=/etc/passwd -o ExitOnForwardFailure=yes h", "-o ForwardAgent=$HOME -o ExitOnForwardFailure=yes h",
    "-o ForwardAgent=yes -o ForwardAgent=/nonexistent -o ExitOnForwardFailure=yes h", "-o ForwardAgent=/nonexistent h",
    "-W a:1 -o ExitOnForwardFailure=no h", "-F none h", "-F NONE h", "-F /nonexistent h", "-F", "-o", "-p", "-o Port h", "-o Port= h", "-o =22 h",
    "-o 'Port 23' h", "-o 'Port = 23' h", "-o Port=23 h", "-oPort=23 h", "-o 'Port=23 24' h", "-o ' Port 23' h", "-o 'Port\t23' h", "-o Port==23 h",
    "-o '\"Port\" 23' h", "-o 'Port \"23\"' h", "-o '#x' h", "-o '' h", "-o 'Port 23 # c' h", "-o 'Port 23#c' h", "-o Nonsense=x h",
    "-o IgnoreUnknown=Non* -o Nonsense=x h", "-o IgnoreUnknown=non* -o Nonsense=x h", "-o Nonsense=x -o IgnoreUnknown=non* h",
    "-o IgnoreUnknown=non*,!nonsense -o Nonsense=x h", "-o 'Host x' h", "-o 'Match all' h", "-o Include=x h", "-o User=a -l b c@h",
    "-o SendEnv=A -o SendEnv=B h", "-o SendEnv=A -o SendEnv=-A h", "-o SetEnv=A=1 -o SetEnv=B=2 h", "-o IdentityFile=a -o IdentityFile=b h",
    "-o IdentityFile=a -o IdentityFile=a h", "-o CertificateFile=a -o CertificateFile=b h", "-o UserKnownHostsFile=a -o UserKnownHostsFile=b h",
    "-o RekeyLimit=1G -o 'RekeyLimit=2G 1h' h", "-o 'RekeyLimit=1G 5m' -o 'RekeyLimit=2G 1h' h", "-o ConnectTimeout=none -o ConnectTimeout=5 h",
    "-o ConnectTimeout=5 -o ConnectTimeout=6 h", "-o UpdateHostKeys=ask h", "-o UpdateHostKeys=ask -o ControlPersist=yes -o ControlPath=/x h",
    "-o UpdateHostKeys=ask -q h", "-o UpdateHostKeys=ask -T h", "-o VerifyHostKeyDNS=yes h", "-o UserKnownHostsFile=/x h",
    "-o UserKnownHostsFile=~/.ssh/known_hosts h", "-o 'ProxyUseFdpass yes' -J a h", "-o LocalForward='1 h:2' -o LocalForward='1 h:2' h",
    "-C -o ControlMaster=auto -o ControlPersist=60s -o KbdInteractiveAuthentication=no -o"
    " PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey -o PasswordAuthentication=no -o 'User=\"deploy\"'"
    " -o ConnectTimeout=10 -o 'ControlPath=\"/tmp/cp/ab\"' host.example.com",
    "-y h", "-E /tmp/x -y h", "-O check h", "-O nonsense h", "-z h", "-d h", "-H h", "-vz h", "--help", "-", "- h",
)  # fmt: skip

# Match criteria for the requested session, which OpenSSH has since version 10: command lines, and the resulting port.
SESSION_FILE = """\
Match sessiontype exec command "up*,who"
Port 1
Match sessiontype subsystem command sftp
Port 2
Match sessiontype none command ""
Port 3
Match sessiontype shell command ""
Port 4
Match sessiontype exec command "/bin/sh *"
Port 5
Match sessiontype exec command "nc t 22"
Port 6
"""
SESSION_LINES = [
    ("h uptime", 1),
    ("h up -a", 1),
    ("-T h -- up", 1),
    ("-T -- h up", 1),
    ("h who is", 22),
    ("-o RemoteCommand=uptime h", 4),  # ssh tests only the command of the command line
    ("-s h sftp", 2),
    ("-o SessionType=subsystem h sftp", 2),
    ("-s h other", 22),
    ("-N h", 3),
    ("-o SessionType=none h", 3),
    ("-W a:1 h", 3),
    ("-o SessionType=default h uptime", 1),
    ("h", 4),
    ("-t h", 4),
]
