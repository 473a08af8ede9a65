"""The table of keywords is complete, each rendered value parses to itself, and the generated page is current."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.file_lines import parse_value
from pmitogen.flags.ssh.keywords import ALIASES, BLOCK_KEYWORDS, NAMES, OBSOLETE, ROWS, TABLE
from pmitogen.flags.ssh.lexer import ConfigValueError, read_line
from pmitogen.flags.ssh.openssh_version import OPENSSH_10, ValueContext
from pmitogen.flags.ssh.report.docs_page import document
from pmitogen.flags.ssh.settings import Verdict
from pmitogen.flags.ssh.values.base import UNSET
from tests.support.programs import find_program
from tests.support.session import repository
from tests.support.ssh_cases import WORDS

READING = ValueContext(OPENSSH_10, {"HOME": "/h"})

# Keywords of OpenSSH 10 that 9.2, the version of the oracle's cases, does not have.
NEWER = {
    "ChannelTimeout": "none|session=5m|session=5m global=1h|x|none session=1|=5|session=x",
    "ObscureKeystrokeTiming": "yes|no|interval:80|interval:20|interval:0|interval:x|x|yes no",
    "RefuseConnection": 'gone|"moved to b"',
    "RevokedHostKeys": 'none|/a|/a /b|none /a|"/a b"',
    "Tag": 'x|"a b"',
    "VersionAddendum": "none|text # comment|a b|'q'|\"q r\"",
    "WarnWeakCrypto": "yes|no|no-pq-kex|x",
    "ConnectTimeout": "1.5|1.5s|.5|1.|1.5m|5s5s|5s5|5m5m",
    "IPQoS": "va|0xff|0x1ff",
    "Ciphers": "chacha20-poly1305@openssh.com",
}


def _parse(keyword: str, text: str) -> object:
    args = read_line(f"{keyword} {text}")
    assert args is not None
    value, problem = parse_value(args, TABLE[ALIASES.get(args.keyword, args.keyword)], READING)
    if problem is not None:
        raise ConfigValueError(problem)
    return value


def _values() -> list[tuple[str, str]]:
    both = [*WORDS.items(), *NEWER.items()]
    rows = [(name, values) for name, values in both if ALIASES.get(name.lower(), name.lower()) in TABLE]
    return [(name, value) for name, values in rows for value in values.split("|")]


def test_a_rendered_value_parses_to_itself() -> None:
    """parse(render(x)) == x, for every value in the cases."""
    seen = set()
    for keyword, text in _values():
        try:
            value = _parse(keyword, text)
        except ConfigValueError:
            continue
        row = TABLE[ALIASES.get(keyword.lower(), keyword.lower())]
        if value is not UNSET:
            assert _parse(row.name, row.value_type.render(value)) == value, (keyword, text, row.value_type.render(value))
            seen.add(row.key)
    flags = {row.key for row in ROWS if row.key.startswith("gssapi")}
    assert seen | flags == set(TABLE), set(TABLE) - seen


@pytest.mark.parametrize(
    ("keyword", "text", "shown"),
    [
        ("RekeyLimit", "1G 1h", "1073741824 3600"),
        ("RekeyLimit", "default none", "0 0"),
        ("ControlPersist", "yes", "yes"),
        ("ControlPersist", "1h30m", "5400"),
        ("IPQoS", "ef", "ef ef"),
        ("IPQoS", "7 0x10", "0x07 lowdelay"),
        ("EscapeChar", "^]", "\\^]"),
        ("AddKeysToAgent", "confirm 5m", "confirm 300"),
        ("CanonicalizePermittedCNAMEs", "*.a:b,C", "*.a:b,c"),
        ("ProxyJump", "ssh://u@h:22", "u@h:22"),
        ("StreamLocalBindMask", "177", "0177"),
        ("ObscureKeystrokeTiming", "interval:80", "80"),
        ("StrictHostKeyChecking", "OFF", "false"),
    ],
)
def test_values_are_rendered_as_by_ssh(keyword: str, text: str, shown: str) -> None:
    assert TABLE[keyword.lower()].value_type.display(_parse(keyword, text)) == shown


def test_invalid_values_of_newer_keywords_are_refused() -> None:
    for keyword, text in (
        ("ConnectTimeout", "1.5m"),
        ("ChannelTimeout", "none session=1"),
        ("WarnWeakCrypto", "x"),
        ("Tag", "a b"),
    ):
        with pytest.raises(ConfigValueError):
            _parse(keyword, text)


def test_rows_are_sorted_and_unique() -> None:
    keys = [row.key for row in ROWS]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert set(ALIASES.values()) <= set(keys)
    assert not (set(keys) & set(ALIASES)) and not (set(keys) & set(OBSOLETE)) and not set(BLOCK_KEYWORDS) & set(keys)
    assert all(row.effect.endswith(".") for row in ROWS)
    assert all(row.verdict is not Verdict.CONFLICT for row in ROWS)
    assert all(flag.keyword in TABLE or not flag.keyword for flag in FLAGS.values())


@pytest.mark.needs_program("ssh")
def test_every_keyword_and_flag_of_the_installed_ssh_is_known(tmp_path: Path) -> None:
    """The candidates are the texts in the program itself, all tried at once."""
    ssh = find_program("ssh")
    assert ssh
    args = set(re.findall(rb"\0([a-z][a-z0-9]{2,32})(?=\0)", Path(ssh).read_bytes()))
    args -= {name.encode() for name in NAMES}
    config = tmp_path / "config"
    config.write_bytes(b"".join(word + b" yes\n" for word in args))
    done = subprocess.run([ssh, "-G", "-F", str(config), "h"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert args and args == set(re.findall(rb"Bad configuration option: (\w+)", done.stderr))
    usage = subprocess.run([ssh], capture_output=True, text=True, timeout=20).stderr
    letters = set(re.search(r"\[-(\w+)\]", usage)[1]) | set(re.findall(r"\[-(\w) ", usage))  # type: ignore[index]
    assert letters <= set(FLAGS)


def test_the_page_of_options_is_current() -> None:
    page = (repository / "docs" / "ssh-options.md").read_text()
    assert page == document(), "run: python -m pmitogen.flags.ssh.report.docs_page > docs/ssh-options.md"
    assert all(f"| {row.name} |" in page for row in ROWS)
