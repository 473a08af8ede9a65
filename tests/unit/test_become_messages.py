"""Messages of sudo, su and doas and their meaning, and quoting of arguments for unknown shells."""

from __future__ import annotations

import ast
import fnmatch
import gettext
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pmitogen.become import diagnosis, entry, escalation, prompt_patterns, quoting
from pmitogen.flags.become.su import PROMPTS
from tests.support import programs

MARKER = "PMITOGEN-0123 password:"

# -- prompts ----------------------------------------------------------------------------------------------------------------

# (program, prompt, kind of the answer); "*" is each of the three programs.
ASKED = [
    ("sudo", MARKER, "password"),
    ("sudo", MARKER + " ", "password"),
    ("sudo", f"[sudo: {MARKER}] Password: ", "password"),  # sudo-rs 0.2.8
    ("sudo", f"[sudo: {MARKER}] Mot de passe : ", "password"),
    ("sudo", f"{MARKER} again: ", None),
    ("sudo", f"It is not {MARKER}", None),
    ("sudo", "PMITOGEN-0124 password:", None),
    ("sudo", "[sudo] password for bob: ", None),
    ("sudo", "Password: ", None),
    ("sudo", "doas (bob@host) password: ", None),
    ("su", MARKER, None),
    ("su", "Password: ", "password"),
    ("su", "Password:", "password"),
    ("su", "bob's Password:", "password"),  # AIX
    ("su", "eve's Password:", None),
    ("su", "[su: authenticate] Password: ", "password"),  # sudo-rs 0.2.10
    ("su", "Password for bob@EXAMPLE.ORG: ", "password"),  # pam_krb5
    ("su", "Password for eve@EXAMPLE.ORG: ", None),
    ("su", "密碼：", "password"),
    ("su", "Mot de passe : ", "password"),
    ("su", "CONTRASEÑA: ", "password"),
    ("su", "root@other password: ", None),
    ("su", "Enter passphrase for key: ", None),
    ("su", "Delete everything? ", None),
    ("su", "doas (bob@host) password: ", None),
    ("doas", "doas (bob@host) password: ", "password"),
    ("doas", "Password: ", "password"),  # of PAM itself
    ("doas", "root@other password: ", None),
    ("*", "Verification code: ", "otp"),  # pam_google_authenticator
    ("*", "Password & verification code: ", "otp"),
    ("*", "One-time password (OATH) for `bob': ", "otp"),  # pam_oath
    ("*", "Passcode or option (1-3): ", "otp"),  # pam_duo
    ("*", "YubiKey for `bob': ", "otp"),
    ("*", "Enter your OTP: ", "otp"),
    ("*", "Enter PIN: ", "otp"),
    ("*", "Current password: ", "new password"),  # pam_unix, an expired password
    ("*", "(current) UNIX password: ", "new password"),
    ("*", "New password: ", "new password"),
    ("*", "Retype new password: ", "new password"),
    ("*", "Sorry, try again.", None),
    ("*", "sudo: a password is required", None),
    ("*", "Last login: Mon Jan 1 10:00:00 from 10.0.0.1", None),
    ("*", "#1) Respect the privacy of others.", None),
    ("*", "Password", None),
    ("*", "Place your finger on the reader", None),
    ("*", "Loading: 30%", None),
]


def prompts_of(*programs: str, args: Sequence[str] = PROMPTS) -> prompt_patterns.Prompts:
    return prompt_patterns.Prompts(programs, MARKER, args, "bob")


@pytest.mark.parametrize("program, text, kind", ASKED, ids=[f"{row[0]}-{row[1]}" for row in ASKED])
def test_each_prompt_has_its_kind(program: str, text: str, kind: str | None) -> None:
    for each in ("sudo", "su", "doas") if program == "*" else (program,):
        assert prompts_of(each).kind(text.strip()) == kind, each


@pytest.mark.parametrize("word", PROMPTS)
def test_prompts_are_recognised_in_every_language(word: str) -> None:
    for text in (f"{word}: ", f"{word} :", f"{word}：", f"{word.upper()}:"):
        assert prompts_of("su").kind(text) == "password"
        assert prompts_of("sudo").kind(text) is None


def test_configured_prompts_are_texts_not_patterns() -> None:
    made = prompts_of("su", args=["a.c", "(secret)"])
    assert made.kind("(secret): ") == "password"
    assert made.kind("abc: ") is None


def test_the_prompt_of_pam_is_recognised_in_the_system_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_catalogue(tmp_path / "xx", "Linux-PAM", {"Password: ": "Κωδικός: "})
    monkeypatch.setattr(diagnosis, "LOCALE_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setattr(gettext, "_translations", {})
    assert prompts_of("su").kind("Κωδικός:") is None
    monkeypatch.setenv("LANG", "xx.UTF-8")
    assert prompts_of("su").kind("Κωδικός:") == "password"
    assert prompts_of("sudo").kind("Κωδικός:") is None
    assert prompts_of("su").kind("Κωδικός χ:") is None


def test_prompts_and_markers_are_unique() -> None:
    assert len({prompt_patterns.random_prompt() for _ in range(50)}) == 50
    entries = [entry.Entry() for _ in range(50)]
    assert len({each.marker for each in entries}) == 50 and all(
        len(each.marker) == 47 < entry.MAX_MARKER_SIZE for each in entries
    )


def test_the_success_marker_is_not_part_of_the_command() -> None:
    made = entry.Entry()
    command = made.command(["printenv", "--", "A"], entry.exports({"A": "it's $x", "B C": "y"}))
    assert command[:2] == ["/bin/sh", "-c"] and fnmatch.fnmatchcase(" ".join(command), entry.SUDOERS_COMMAND)
    refused = f"Sorry, user bob is not allowed to execute '{' '.join(command)}' as root on h.\n"
    assert not made.is_in(refused.encode()) and not made.is_in(made.marker.encode())
    output = subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert made.is_in(output.stdout) and made.is_in(output.stderr)
    assert output.stdout.splitlines()[1] == b"it's $x"
    assert subprocess.run(made.command(["false"], ""), capture_output=True, timeout=20).returncode == 1
    taken_over = subprocess.run(made.command(["sh", "-c", "echo $PPID"]), capture_output=True, check=True, timeout=20)
    assert int(taken_over.stdout.splitlines()[1]) == os.getpid()


# -- failures ---------------------------------------------------------------------------------------------------------------

SAID = [
    ("sudo", "sudo: a password is required", "password-missing"),  # 1.9
    ("sudo", "sudo: interactive authentication is required", "password-missing"),  # sudo-rs
    ("sudo", "Sorry, try again.\nsudo: 1 incorrect password attempt", "password-wrong"),
    ("sudo", "sudo: Authentication failed, try again.", "password-wrong"),  # sudo-rs
    ("sudo", "sudo: maximum 3 incorrect authentication attempts", "password-wrong"),
    ("sudo", "bob is not in the sudoers file.  This incident will be reported.", "not-permitted"),
    ("sudo", "bob is not in the sudoers file.", "not-permitted"),
    ("sudo", "Sorry, user bob is not allowed to execute '/usr/bin/python3 -c not found' as root on h.", "not-permitted"),
    ("sudo", "Sorry, user bob may not run sudo on h.", "not-permitted"),
    ("sudo", "bob is not allowed to run sudo on h.", "not-permitted"),
    ("sudo", "sudo: I'm sorry bob. I'm afraid I can't do that", "not-permitted"),  # sudo-rs
    ("sudo", "sudo: you are not permitted to use the -C option", "not-permitted"),
    ("sudo", "sudo: sorry, you are not allowed to preserve the environment", "not-permitted"),
    ("sudo", "sudo: sorry, you are not allowed to set the following environment variables: A", "not-permitted"),
    ("sudo", "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with 'nosuid'?", "not-permitted"),
    ("sudo", 'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "not-permitted"),
    ("sudo", "sudo: unknown user nobody2", "unknown-user"),
    ("sudo", "sudo: unknown user: nobody2", "unknown-user"),
    ("sudo", "sudo: unknown group staff2", "unknown-user"),
    ("sudo", "sudo: user 'nobody2' not found", "unknown-user"),  # sudo-rs
    ("sudo", "sudo: sorry, you must have a tty to run sudo", "tty"),
    ("sudo", "sudo: a terminal is required to read the password; either use the -S option", "tty"),
    ("sudo", "sudo: account validation failure, is your account locked?", "account"),
    ("sudo", "sudo: Account or password is expired, reset your password and try again", "account"),
    ("sudo", 'sudo: Account expired or PAM config lacks an "account" section for sudo', "account"),
    ("sudo", "sudo: PAM account management error: Permission denied", "account"),
    ("sudo", "Your account will be warned of expiry in 5 days", None),
    ("su", "su: Authentication failure", "password-wrong"),
    ("su", "su: incorrect password", "password-wrong"),  # BusyBox, EL6
    ("su", "su: Sorry", "password-wrong"),  # FreeBSD
    ("su", "su: user nobody2 does not exist or the user entry does not contain all the required fields", "unknown-user"),
    ("su", "su: user nobody2 does not exist", "unknown-user"),
    ("su", "No passwd entry for user 'nobody2'", "unknown-user"),  # shadow
    ("su", "su: unknown user nobody2", "unknown-user"),  # BusyBox
    ("su", "su: no 'nobody2'", "unknown-user"),  # Toybox
    ("su", "Password: \nNo.", "password-wrong"),  # Toybox
    ("su", "su: user 'nobody2' not found", "unknown-user"),  # sudo-rs
    ("sudo", "sudo: Account validation failure, is your account locked?", "account"),  # sudo-rs
    ("su", "su: unknown login: nobody2", "unknown-user"),  # FreeBSD
    ("su", "su: must be run from a terminal", "tty"),
    ("su", "su: Permission denied", "not-permitted"),  # pam_wheel
    ("su", "su: only root can specify alternative groups", "not-permitted"),
    ("su", "Your account has expired; please contact your system administrator.\nsu: User account has expired", "account"),
    ("su", "su: Authentication token is no longer valid; new one required", "account"),
    ("su", "The account is locked due to 3 failed logins.\nsu: Authentication failure", "account"),  # pam_faillock
    ("su", "su: failed to execute /bin/none: No such file or directory", "shell"),
    ("doas", "doas: Operation not permitted", "not-permitted"),
    ("doas", "doas: doas is not enabled, /etc/doas.conf: No such file or directory", "not-permitted"),
    ("doas", "doas: Authentication failed", "password-wrong"),
    ("doas", "doas: Authorization failed", "password-wrong"),  # OpenBSD
    ("doas", "doas: Authentication required", "password-missing"),
    ("doas", "doas: Authorization required", "password-missing"),
    ("doas", "doas: unknown user", "unknown-user"),
    ("doas", "doas: a tty is required", "tty"),
    ("doas", "hello", None),
]


@pytest.mark.parametrize("method, text, kind", SAID, ids=[row[1][:60] for row in SAID])
def test_each_refusal_has_its_kind(method: str, text: str, kind: str | None) -> None:
    assert diagnosis.refusal([method], text) == kind


def test_every_kind_is_documented_in_errors() -> None:
    from pmitogen.errors import BecomeError

    kinds = {kind for table in (diagnosis.PATTERNS, diagnosis.MESSAGE_IDS) for rows in table.values() for kind, *_ in rows}
    assert all(f"``{kind}``" in (BecomeError.__doc__ or "") for kind in kinds)


def test_refusals_are_recognised_in_the_system_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_catalogue(tmp_path / "xx", "sudoers", {
        "a password is required": "Ein Passwort ist notwendig",
        "%s is not in the sudoers file.\n": "%1$s steht nicht in der sudoers-Datei.\n",
    })  # fmt: skip
    monkeypatch.setattr(diagnosis, "LOCALE_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setattr(gettext, "_translations", {})
    assert diagnosis.refusal(["sudo"], "sudo: Ein Passwort ist notwendig") is None
    monkeypatch.setenv("LANG", "xx.UTF-8")
    assert diagnosis.refusal(["sudo"], "sudo: Ein Passwort ist notwendig") == "password-missing"
    assert diagnosis.refusal(["sudo"], "bob steht nicht in der sudoers-Datei.") == "not-permitted"
    assert diagnosis.refusal(["sudo"], "bob steht in der Datei.") is None


def write_catalogue(directory: Path, domain: str, options: dict[str, str]) -> None:
    """Write a GNU .mo file (info gettext, "The Format of GNU MO Files")."""
    options = {"": "Content-Type: text/plain; charset=UTF-8\n", **options}
    pairs = [(key.encode(), options[key].encode()) for key in sorted(options)]
    at = 28 + 16 * len(pairs)
    tables: list[list[int]] = [[], []]
    text = b""
    for column in (0, 1):
        for pair in pairs:
            tables[column] += [len(pair[column]), at + len(text)]
            text += pair[column] + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    path = directory / "LC_MESSAGES" / f"{domain}.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(header + struct.pack(f"<{4 * len(pairs)}I", *tables[0], *tables[1]) + text)


SHELLS_SAID = [
    ("sh: 1: exec: python9: not found", 127, "/bin/sh", "python"),  # dash
    ("bash: line 1: exec: python9: not found", 127, "/bin/bash", "python"),
    ("python9: Command not found.", 1, "/bin/tcsh", "python"),
    ("fish: Unknown command: python9", 127, "/usr/bin/fish", "python"),
    ("sudo: python9: command not found", 1, None, "python"),
    ("env: 'python9': No such file or directory", 127, None, "python"),
    ("sh: 1: exec: /usr/bin/python9: Permission denied", 126, "/bin/sh", "python"),
    ("", 127, None, "python"),
    ("This account is currently not available.", 1, "/usr/sbin/nologin", "shell"),
    ("", 1, "/bin/false", "shell"),
    ("fatal: unrecognized command 'exec ...'", 128, "/usr/bin/git-shell", "shell"),
    ("Unmatched '''.", 1, "/bin/csh", "shell"),
    ("", 1, "/bin/bash", None),
    ("Segmentation fault", 139, None, None),
]


@pytest.mark.parametrize("text, status, shell, kind", SHELLS_SAID, ids=[f"{r[0][:30]}-{r[1]}-{r[2]}" for r in SHELLS_SAID])
def test_each_failure_of_a_shell_has_its_kind(text: str, status: int, shell: str | None, kind: str | None) -> None:
    assert diagnosis.shell_failure(text, status, ["/usr/bin/python9", "-c"], shell) == kind


# -- arguments through shells ---------------------------------------------------------------------------------------------------

ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
SHOW = "import sys; print(ascii(sys.argv[1:]))"
WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), max_size=4)
NASTY = st.lists(st.text(st.sampled_from("a \t\n\r'\"\\!$`(){}[]*?~#;&|<>%^=\x01é"), max_size=12), max_size=4)
SHELLS = [shell for shell in ("sh", "bash", "dash", "fish", "tcsh", "zsh") if programs.find_program(shell)]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.one_of(WORDS, NASTY))
@example(args=["=0", "=ls"])
def test_a_quoted_command_has_the_same_meaning_in_every_shell(shell: str, args: list[str]) -> None:
    path = programs.find_program(shell)
    assert path
    text = quoting.shell_string([sys.executable, "-c", SHOW, *args])
    assert "\n" not in text
    done = subprocess.run([path, "-c", text], capture_output=True, env=ENVIRONMENT, timeout=20)
    assert ast.literal_eval(done.stdout.decode()) == args, done.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.one_of(WORDS, NASTY))
def test_arguments_pass_unchanged_through_sudo_i(args: list[str]) -> None:
    """sudo -i joins the arguments, and escapes each character except letters, digits, ``_``, ``-`` and ``$`` by a backslash."""
    argv = quoting.shell_safe_argv([sys.executable, "-c", SHOW, *args])
    joined = b" ".join(b"".join(bytes([c]) if chr(c) in SAFE else b"\\" + bytes([c]) for c in word.encode()) for word in argv)
    done = subprocess.run(["/bin/sh", "-c", joined], capture_output=True, env=ENVIRONMENT, timeout=20)
    assert ast.literal_eval(done.stdout.decode()) == args, done.stderr


SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-$"


def test_safe_arguments_are_not_quoted() -> None:
    assert quoting.shell_string(["/usr/bin/python3", "-c", "import x"]) == "exec /usr/bin/python3 -c 'import x'"
    assert quoting.shell_safe_argv(["a", "b c'"]) == ["a", "b c'"]
    assert quoting.posix_quote("0\n") == "'0\n'", "a newline at the end must be quoted"


# -- sources ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", list(programs.target_pythons()))
def test_the_sources_compile_for_every_target(version: str) -> None:
    python = programs.find_python(version)
    assert python
    code = "import sys\nfor path in sys.argv[1:]:\n    compile(open(path, 'rb').read(), path, 'exec')"
    files = sorted(str(path) for path in Path(escalation.__file__).parent.glob("*.py"))
    subprocess.run([python, "-W", "error", "-c", code, *files], check=True, timeout=20)
