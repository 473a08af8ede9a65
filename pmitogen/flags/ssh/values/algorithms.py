"""Algorithm lists: the known names, and the operators ``+``, ``-``, ``^`` and wildcards on the default list.

Names are checked against the algorithms of OpenSSH 9 and 10, not against Paramiko's: the
transport uses the supported part of a list and reports the rest. Source: myproposal.h, kex-names.c, cipher.c, mac.c, sshkey.c.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.util.patterns import ascii_lower, match_list, match_pattern

CIPHER, MAC, KEX, KEY, SIGNATURE = "cipher", "mac", "kex", "key", "signature"

_CIPHERS = (
    "3des-cbc aes128-cbc aes192-cbc aes256-cbc aes128-ctr aes192-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com"
    " chacha20-poly1305@openssh.com"
)
_MACS = (
    "hmac-sha1 hmac-sha1-96 hmac-sha2-256 hmac-sha2-512 hmac-md5 hmac-md5-96 umac-64@openssh.com umac-128@openssh.com"
    " hmac-sha1-etm@openssh.com hmac-sha1-96-etm@openssh.com hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com"
    " hmac-md5-etm@openssh.com hmac-md5-96-etm@openssh.com umac-64-etm@openssh.com umac-128-etm@openssh.com"
)
_KEXES = (
    "diffie-hellman-group1-sha1 diffie-hellman-group14-sha1 diffie-hellman-group14-sha256 diffie-hellman-group16-sha512"
    " diffie-hellman-group18-sha512 diffie-hellman-group-exchange-sha1 diffie-hellman-group-exchange-sha256 ecdh-sha2-nistp256"
    " ecdh-sha2-nistp384 ecdh-sha2-nistp521 mlkem768nistp256-sha256 curve25519-sha256 curve25519-sha256@libssh.org"
    " sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com mlkem768x25519-sha256"
)
_PLAIN_KEYS = (
    "ssh-ed25519 sk-ssh-ed25519@openssh.com ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521"
    " sk-ecdsa-sha2-nistp256@openssh.com webauthn-sk-ecdsa-sha2-nistp256@openssh.com ssh-dss ssh-rsa rsa-sha2-256 rsa-sha2-512"
)
_ALL_KEYS = (
    "ssh-ed25519 ssh-ed25519-cert-v01@openssh.com sk-ssh-ed25519@openssh.com sk-ssh-ed25519-cert-v01@openssh.com"
    " ssh-mldsa44-ed25519@openssh.com ssh-mldsa44-ed25519-cert-v01@openssh.com"
    " ecdsa-sha2-nistp256 ecdsa-sha2-nistp256-cert-v01@openssh.com ecdsa-sha2-nistp384 ecdsa-sha2-nistp384-cert-v01@openssh.com"
    " ecdsa-sha2-nistp521 ecdsa-sha2-nistp521-cert-v01@openssh.com sk-ecdsa-sha2-nistp256@openssh.com"
    " sk-ecdsa-sha2-nistp256-cert-v01@openssh.com webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
    " webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com ssh-dss ssh-dss-cert-v01@openssh.com ssh-rsa"
    " ssh-rsa-cert-v01@openssh.com rsa-sha2-256 rsa-sha2-256-cert-v01@openssh.com rsa-sha2-512 rsa-sha2-512-cert-v01@openssh.com"
)
_DEFAULT_SIGNATURES = (
    "ssh-ed25519 ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521 sk-ssh-ed25519@openssh.com"
    " sk-ecdsa-sha2-nistp256@openssh.com webauthn-sk-ecdsa-sha2-nistp256@openssh.com rsa-sha2-512 rsa-sha2-256"
)
_DEFAULTS = {
    CIPHER: "chacha20-poly1305@openssh.com aes128-gcm@openssh.com aes256-gcm@openssh.com aes128-ctr aes192-ctr aes256-ctr",
    MAC: "umac-64-etm@openssh.com umac-128-etm@openssh.com hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com"
    " hmac-sha1-etm@openssh.com umac-64@openssh.com umac-128@openssh.com hmac-sha2-256 hmac-sha2-512 hmac-sha1",
    KEX: "mlkem768x25519-sha256 sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com curve25519-sha256"
    " curve25519-sha256@libssh.org ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521"
    " diffie-hellman-group-exchange-sha256 diffie-hellman-group16-sha512 diffie-hellman-group18-sha512"
    " diffie-hellman-group14-sha256",
    KEY: "ssh-ed25519-cert-v01@openssh.com ecdsa-sha2-nistp256-cert-v01@openssh.com ecdsa-sha2-nistp384-cert-v01@openssh.com"
    " ecdsa-sha2-nistp521-cert-v01@openssh.com sk-ssh-ed25519-cert-v01@openssh.com sk-ecdsa-sha2-nistp256-cert-v01@openssh.com"
    " webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com rsa-sha2-512-cert-v01@openssh.com rsa-sha2-256-cert-v01@openssh.com "
    + _DEFAULT_SIGNATURES,
    SIGNATURE: _DEFAULT_SIGNATURES,
}
_KNOWN = {CIPHER: _CIPHERS, MAC: _MACS, KEX: _KEXES, KEY: _ALL_KEYS, SIGNATURE: _PLAIN_KEYS}
# sshkey.c takes these for key types too, in any case; no algorithm has such a name, so a list of only these is empty.
_SHORT_KEY_NAMES = ("ed25519", "ed25519-sk", "ecdsa", "ecdsa-sk", "rsa", "dsa", "mldsa44-ed25519")


def _split(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {family: tuple(names.split()) for family, names in table.items()}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Catalogue:
    """The algorithm names of one ssh program: all names, and the default proposal."""

    known: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: _split(_KNOWN))
    defaults: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: _split(_DEFAULTS))

    def check(self, family: str, spec: str) -> None:
        """Raise ConfigValueError if *spec* has an unknown name. Names after ``-`` are not checked, as in ssh."""
        if spec.startswith("-"):
            return
        names = spec[1:] if spec[:1] in ("+", "^") else spec
        if not names:
            raise ConfigValueError(f"{spec!r}: missing algorithm")
        for name in names.split(","):
            if not name:  # OpenSSH stops reading here
                return
            if not self._is_valid(family, name):
                raise ConfigValueError(f"unknown {family} algorithm {name!r}; use some of: {' '.join(self.known[family])}")

    def _is_valid(self, family: str, name: str) -> bool:
        known = self.known[family]
        if name in known:
            return True
        if family not in (KEY, SIGNATURE):
            return False
        return ascii_lower(name) in _SHORT_KEY_NAMES or any(match_list(pattern, name) for pattern in self.known[KEY])

    def resolve(self, family: str, spec: str | None) -> tuple[str, ...]:
        """Return the algorithms that *spec* selects, best first. Raises ConfigValueError if none is left."""
        defaults, known = self.defaults[family], self.known[family]
        if not spec:
            return defaults
        operator, names = (spec[0], spec[1:]) if spec[0] in "+-^" else ("", spec)
        if operator == "-":
            return tuple(name for name in defaults if not match_list(name, names))
        wanted = names.split(",")
        if operator == "+":
            wanted = _joined(defaults, wanted)
        elif operator == "^":
            wanted = _joined(wanted, defaults)
        if any(name.startswith("!") for name in wanted):
            raise ConfigValueError(f"{spec!r}: negated names are not supported here")
        effective = _joined((), [name for pattern in wanted for name in known if match_pattern(name, pattern)])
        if not effective:
            raise ConfigValueError(f"{spec!r} leaves no algorithm")
        return tuple(effective)


def _joined(first: tuple[str, ...] | list[str], second: tuple[str, ...] | list[str]) -> list[str]:
    """Join both lists without duplicates; an empty name ends the second, as in OpenSSH."""
    joined = list(first)
    for name in second:
        if not name:
            break
        if name not in joined:
            joined.append(name)
    return joined


OPENSSH = Catalogue()
