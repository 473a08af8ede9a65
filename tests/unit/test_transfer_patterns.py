"""Patterns in remote paths: the matching names, and the time for a hostile listing."""

from __future__ import annotations

import fnmatch
import itertools
import time

import pytest

from pmitogen.cli.transfer.patterns import _Matcher

PIECES = ["a", "b", "*", "?", "[ab]", "[!a]", "-", "[a-c]"]


def test_patterns_match_the_names_that_a_shell_matches() -> None:
    names = ["".join(each) for length in (1, 2, 3) for each in itertools.product("abc-", repeat=length)]
    for length in (1, 2, 3):
        for pieces in itertools.product(PIECES, repeat=length):
            pattern = "".join(pieces)
            matcher = _Matcher(pattern)
            assert [name for name in names if matcher.matches(name)] == fnmatch.filter(names, pattern), pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", ".hidden", False),
        (".*", ".hidden", True),
        ("[.]x", ".x", False),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("[&&]", "&", True),
        ("[]a]", "]", True),
        ("a*a", "a", False),
    ],
)
def test_a_pattern_matches_a_name_as_in_a_shell(pattern: str, name: str, matches: bool) -> None:
    assert _Matcher(pattern).matches(name) is matches


def test_many_stars_take_linear_time() -> None:
    began = time.process_time()
    assert not _Matcher("*-*-*-*-*x").matches("-" * 1000)
    assert time.process_time() - began < 1
