"""Hypothesis strategies for ssh configurations: plausible files and command lines, from the hand-written values.

Excluded are the few known differences between OpenSSH 9 and 10: see ``KNOWN_TO_DIFFER``.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st

from tests.support.ssh_cases import LINES, WORDS

HOSTS = ("h", "web-1", "web-12.example.com", "db", "H", "10.0.0.1", "a.b")
PATTERNS = ("*", "h", "web-*", "!db", "?", "*.example.com", "10.0.*", "a.b", "!web-1", "H", "w*b*1*")
USERS = ("root", "u", "deploy")

# A quoted word, "=", a carriage return or "!final" within Match, which 9 cuts as it cuts keywords; a blank in ProxyJump (9 takes the
# first word), or a comment behind its "none" (9 takes that for a host's name). No word is a time with a fraction.
KNOWN_TO_DIFFER = re.compile(
    r"(?im)^\s*\"?match\b.*(?:['\"\\=]|\r[^\n])|!final|^\s*\"?proxyjump\b.*\S\s+\S|^\s*\"?proxyjump\"?[\s=]*none#"
)

_VALUES = [(keyword, value) for keyword, values in WORDS.items() for value in values.split("|")]
_STRUCTURE = ("Host", "Match", "Include", "Ho st")


def _line(keyword: str, value: str, equals: str, indent: str, end: str, case: int) -> str:
    name = (keyword, keyword.lower(), keyword.upper(), f'"{keyword}"')[case]
    return f"{indent}{name}{equals}{value}{end}"


_OPTIONS = st.builds(
    lambda pair, *rest: _line(*pair, *rest),
    st.sampled_from([pair for pair in _VALUES if pair[0] not in _STRUCTURE]),
    st.sampled_from([" ", " ", " ", "=", " = ", "\t", "  ", "=="]),
    st.sampled_from(["", "", "    ", "\t"]),
    st.sampled_from(["", "", "", " ", " # comment", "#x", "\r", "\f"]),
    st.sampled_from([0, 0, 0, 1, 2, 3]),
)
_GOOD = st.sampled_from(
    [
        "Port 23", "User u", "HostName %h.x", "IdentityFile ~/.ssh/k", "SendEnv A B", "SendEnv -A", "ProxyJump j", "ProxyCommand nc %h %p",
        "Ciphers +3des-cbc", "SetEnv A=1", "LocalForward 1 h:2", "ControlPath /%C", "UserKnownHostsFile /x/%k", "Compression yes",
        "IgnoreUnknown foo*", "CertificateFile c", "RekeyLimit 1G 1h", "ServerAliveInterval 9", "ForwardAgent yes", "", "# c",
    ]
)  # fmt: skip
_HOST = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4).map(lambda patterns: "Host " + " ".join(patterns))
_CRITERION = st.one_of(
    st.builds("{}host {}".format, st.sampled_from(["", "!", "original"]), st.sampled_from([*PATTERNS, "h,db", "*,!h"])),
    st.builds(
        "{}{}user {}".format,
        st.sampled_from(["", "!"]),
        st.sampled_from(["", "local"]),
        st.sampled_from([*USERS, "r*", "u,root"]),
    ),
    st.sampled_from(["final", "canonical", "exec true", "exec false", "!exec false"]),
)
_MATCH = st.one_of(st.just("Match all"), st.lists(_CRITERION, min_size=1, max_size=3).map(lambda args: "Match " + " ".join(args)))

CONFIGS = st.lists(st.one_of(_OPTIONS, _GOOD, _GOOD, _GOOD, _HOST, _MATCH), max_size=25).map(
    lambda lines: "\n".join(lines) + "\n"
)

_ASKS = [line for line in LINES if "-F" not in line and "'" not in line and "ssh://" not in line]
ASKS = st.one_of(
    st.sampled_from(HOSTS),
    st.builds("{}@{}".format, st.sampled_from(USERS), st.sampled_from(HOSTS)),
    st.builds("-p {} {}".format, st.integers(1, 65535), st.sampled_from(HOSTS)),
    st.sampled_from(_ASKS),
)


@st.composite
def mutated(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with a few characters removed, doubled, inserted or exchanged."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.one_of(st.text(max_size=3), st.sampled_from(list("'\"\\=#%${}*?!,:@-+^ \t\n\r\f\0[]/~"))))
        text = text[:at] + piece + text[at + draw(st.integers(0, 3)) :]
    return text
