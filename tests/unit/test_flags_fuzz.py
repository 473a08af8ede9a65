"""No input raises anything except UsageError, or takes long.

``PMITOGEN_FUZZ_SECONDS`` is the duration; the default is a few seconds.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmitogen.errors import UsageError
from pmitogen.flags.ssh import match_criteria
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.keywords import NAMES
from pmitogen.flags.ssh.openssh_version import OPENSSH_10
from pmitogen.flags.ssh.report.explain import explain_ssh
from pmitogen.flags.ssh.resolve import resolve, resolve_hop
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.patterns import match_list, match_pattern
from tests.support.ssh_cases import LINES, WORDS
from tests.support.ssh_files import CASES

SECONDS = float(os.environ.get("PMITOGEN_FUZZ_SECONDS", "4"))
SLOW = 5  # seconds for one input

_PIECES = [
    "'",
    '"',
    "\\",
    "=",
    "%",
    "%h",
    "%%",
    "${",
    "${HOME}",
    "}",
    "*",
    "?",
    "!",
    ",",
    ":",
    "@",
    "[",
    "]",
    "/",
    "~",
    "~root",
    "+",
    "-",
    "^",
    "#",
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\f",
    "none",
    "ssh://",
    "99999999999999999999",
    "-1",
    "\udc80",
    "é",
    "٣",
    "0x",
    "1e9",
    "é́",
]


@pytest.fixture(autouse=True)
def _no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable commands, because a mutated "Match exec" could run anything."""
    monkeypatch.setattr(match_criteria, "_command_succeeds", lambda command, context: len(command) % 2 == 0)


def _try(argv: list[str], environ: dict[str, str]) -> None:
    start = time.thread_time()  # processor time of this thread, because the machine may be busy
    try:
        explain_ssh(argv, caller=CallerEnvironment(environ), program=OPENSSH_10)
        settings = resolve(argv, caller=CallerEnvironment(environ), strict=False)
        for hop in settings.proxyjump[:3]:
            resolve_hop(hop, settings, strict=False)
    except UsageError as error:
        assert "\n" not in error.message or any("\n" in word for word in argv), "the message must be one line"
    assert time.thread_time() - start < SLOW


def _mutate(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(text))
        end = at + rng.choice((0, 0, 1, 2, rng.randint(0, 40)))
        piece = rng.choice(_PIECES) * rng.choice((0, 1, 1, 1, 2, 50))
        text = text[:at] + (piece or text[at:end] * 2) + text[end:]
    return text


def _mutated(rng: random.Random) -> tuple[str, list[str]]:
    case, other = rng.choice(CASES), rng.choice(CASES)
    text = case.text[:3000] + other.text[:1000]
    if rng.random() < 0.5:
        name = rng.choice(sorted(NAMES))
        text += f"{name} {rng.choice(rng.choice(list(WORDS.values())).split('|'))}\n"
    ask = rng.choice([*LINES, *case.queries]).split()
    return _mutate(text, rng), [_mutate(word, rng) if rng.random() < 0.3 else word for word in ask]


@pytest.mark.timeout(SECONDS * 3 + 60)
def test_mutated_files_and_command_lines_raise_usage_errors_only(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    config = tmp_path / "config"
    until = time.monotonic() + SECONDS
    tries = 0
    while time.monotonic() < until:
        text, ask = _mutated(rng)
        config.write_bytes(text.replace("@/", f"{tmp_path}/").encode("utf-8", "surrogateescape"))
        try:
            _try(["-F", str(config), *ask], {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "/x"})
        except Exception as error:
            raise AssertionError(f"seed {seed}: {ask!r}\n{text!r}") from error
        tries += 1
    assert tries > 20


_WORD = st.one_of(
    st.text(max_size=20),
    st.sampled_from(_PIECES),
    st.builds("-{}".format, st.sampled_from(sorted(FLAGS))),
    st.builds(
        "-o{}={}".format,
        st.sampled_from(sorted(NAMES)),
        st.one_of(st.text(max_size=12), st.lists(st.sampled_from(_PIECES)).map("".join)),
    ),
)


@settings(max_examples=int(SECONDS * 100), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(args=st.lists(_WORD, max_size=6))
def test_arbitrary_arguments_raise_usage_errors_only(args: list[str]) -> None:
    _try(["-F", "none", *args], {})


@pytest.mark.parametrize("pattern", ["*" * 3000, "*a" * 500, "a*" * 500 + "b", "?" * 1000 + "*", "*" + "?*" * 400])
def test_matching_a_pattern_is_fast(pattern: str) -> None:
    start = time.thread_time()
    match_pattern("a" * 1000, pattern)
    match_list("a" * 1000, pattern + ",!" + pattern)
    assert time.thread_time() - start < SLOW
