"""Text of a peer is shown as one line without control characters or reordering."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmitogen.util.peer_text import LIMIT, escape, escape_lines, escape_text, format_prompt, one_line

TEXTS = [
    ("Password:", "Password:"),
    ("", ""),
    ("\x1b[2J\x1b]0;owned\x07Enter passphrase", r"\033[2J\033]0;owned\007Enter passphrase"),
    ("a\r\nb\tc   d ", "a b c d"),
    ("80 columns" + " " * 70 + "root@other's password:", "80 columns root@other's password:"),
    ("\x9b2J", r"\2332J"),
    (b"\x9b2J\xff", r"\2332J\377"),
    (b"\xc3\xa9", "é"),
    ("gr\u00fc\u00df dich, \u4f60\u597d, \u05e9\u05dc\u05d5\u05dd", "grüß dich, 你好, שלום"),
    ("evil\u202etxt.exe", r"evil\u202etxt.exe"),
    ("a\u200bb\u2060c\ufeffd\u00ade", r"a\u200bb\u2060c\ufeffd\255e"),
    ("\u3164\u115f\u2800\ufe0f", r"\u3164\u115f\u2800\ufe0f"),
    ("\U000e0041", r"\U000e0041"),
    ("e\u0301", "e\u0301"),
    ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + r"\u0301" * 2),
    ("\udcff\ud800", r"\377\ud800"),
    ("C:\\033", "C:\\033"),
    ("\x00\x7f", r"\000\177"),
    ("a\u2028b\u2029c\x85d", "a b c d"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_control_characters_are_escaped(text: str | bytes, shown: str) -> None:
    assert escape(text) == shown


@given(st.one_of(st.text(), st.binary(), st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Mn", "Me"]))))
def test_any_text_is_one_harmless_line(text: str | bytes) -> None:
    shown = escape(text)
    assert len(shown) <= LIMIT and shown.isprintable() and shown == shown.strip() and "  " not in shown
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)
    assert escape(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["x" * 10_000_000, " " * 10_000_000 + "x", b"\xff" * 10_000_000, "\x1b" * 1000])
def test_long_text_is_shortened(text: str | bytes) -> None:
    assert len(escape(text, 50)) <= 50 and escape(text, 50).endswith("...")
    assert len(escape(text, 50, keep_end=True)) <= 50 and escape(text, 50, keep_end=True).startswith("...")


def test_shortening_can_preserve_the_end() -> None:
    assert escape("a long story: no such file", 15, keep_end=True) == "...no such file"


def test_the_number_of_lines_is_limited() -> None:
    assert escape_lines("one\r\n\r\n  two\x1b[m\n") == ["one", r"two\033[m"]
    assert escape_lines(b"x\n" * 1_000_000, max_lines=2) == ["x", "x", "..."]


def test_a_text_for_the_terminal_stays_whole() -> None:
    assert escape_text("a  b\tc\r\n\n\x1b[md\n") == "a  b\tc\n\n\\033[md\n"
    assert escape_text("x\ry") == "x\ny" and escape_text(b"\xff\n" * 100) == "\\377\n" * 100


@given(st.one_of(st.text(), st.binary()))
def test_no_text_controls_the_terminal(text: str | bytes) -> None:
    shown = escape_text(text)
    assert shown.replace("\n", "").replace("\t", "").isprintable() and escape_text(shown) == shown


def test_a_prompt_begins_with_the_user_and_host() -> None:
    assert (
        format_prompt("a@b", "Enter passphrase for key '/root/.ssh/id':\n") == "(a@b) Enter passphrase for key '/root/.ssh/id': "
    )
    assert format_prompt("a\n@b", "\x1b[2Jx") == r"(a @b) \033[2Jx "


@pytest.mark.parametrize("text", ["\x1b" * 10_000, "x" * 10_000, "a\r\nb\tc  d\u2028e", ""])
def test_a_whole_message_is_one_line(text: str) -> None:
    """It keeps spaces, because file names may have them."""
    shown = one_line(text, 100)
    assert len(shown) <= 100 and "\n" not in shown and shown.isprintable() and one_line(shown, 100) == shown
    assert shown.endswith("...") == (len(text) > 100)
    assert text[:1] != "a" or shown == "a b c  d e"
