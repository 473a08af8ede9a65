"""Escalation with the real sudo, su and doas, from an unprivileged account, under every target Python."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pmitogen.flags.become import plan as become
from tests.support import programs
from tests.support.accounts import Account, Accounts

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "support" / "become_driver.py"
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or "python3"
TIMEOUT = 8.0  # seconds for an escalation; sudo and su take 2 to 3 to reject a password

# Behaves as the agent's loader: prints the marker, then account and directory, then sends every byte back.
LOADER = """import os, sys
w = os.write
w(1, b"PMITOGEN-%s ready\\n" % sys.argv[1].encode())
import pwd
print(pwd.getpwuid(os.geteuid())[0], os.environ.get(sys.argv[2], "-"), os.getcwd(), flush=True)
while True:
    data = os.read(0, 65536)
    if not data:
        break
"""
ECHO = """import os, sys
os.write(1, b"PMITOGEN-%s ready\\n" % sys.argv[1].encode())
while True:
    data = os.read(0, 65536)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
"""

pytestmark = [pytest.mark.needs_root]
VERSIONS = [pytest.param(version, id=version) for version in programs.target_pythons()]


def enter(
    account: Account,
    method: str,
    *,
    driver: str = sys.executable,
    command: list[str] | None = None,
    env: dict[str, str] | None = None,
    show: str = "HOME",
    size: int = 0,
    code: str | None = None,
    timeout: float = TIMEOUT,
    cwd: str = "/",
    token: str = "",
    delay: float = 0,
    **options: Any,
) -> dict[str, Any]:
    """Run one escalation from *account*; return the driver's result."""
    plan, _ = become.plan(method, timeout=timeout, **options)
    token = token or secrets.token_hex(4)
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(account.home), "USER": account.name, "SHELL": account.shell}
    job = {
        "root": str(ROOT),
        "uid": account.uid,
        "gid": account.gid,
        "name": account.name,
        "plan": plan,
        "secrets": {kind: options.get(kind) for kind in ("password", "otp")},
        "delay": delay,
        "command": command or [SYSTEM_PYTHON, "-c", code or (ECHO if size else LOADER), token, show],
        "token": token,
        "env": {**base, **(env or {})},
        "size": size,
        "cwd": cwd,
    }
    done = subprocess.run([driver, str(DRIVER)], input=json.dumps(job), capture_output=True, text=True, timeout=timeout + 40)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["reaped"], result
    assert result["end"] < timeout + 8, result
    assert result["fds"] == [0, 1, 2, 3], result
    password = options.get("password")
    if password:
        assert password not in done.stdout
    return result


@pytest.fixture(scope="module")
def pair(_account_maker: Accounts) -> Iterator[tuple[Account, Account]]:
    """An account that may use sudo and doas with its password, and one to become."""
    made = _account_maker.make(sudo="password", doas="password"), _account_maker.make()
    yield made
    for each in made:
        _account_maker.give_back(each)


SHELLS = [shell for shell in ("sh", "bash", "dash", "fish", "tcsh", "zsh") if programs.find_program(shell)]


@pytest.fixture(scope="module", params=SHELLS)
def shell_pair(request: pytest.FixtureRequest, _account_maker: Accounts) -> Iterator[tuple[Account, Account]]:
    """An account with sudo without a password, and one to become, both with the same login shell."""
    shell = programs.find_program(request.param) or ""
    made = _account_maker.make(sudo="nopasswd", doas="nopass", shell=shell), _account_maker.make(shell=shell)
    for name in (".profile", ".login"):
        made[1].write(name, "echo a profile speaks\n")
    yield made
    for each in made:
        _account_maker.give_back(each)


# -- successful escalations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_sudo_enters_without_a_password(version: str, account: Account, pythons: dict[str, str]) -> None:
    got = enter(account, "sudo", driver=pythons[version], flags="-H -S -n")
    assert got["line"] == "root /root /", got


@pytest.mark.parametrize("version", VERSIONS)
def test_each_program_enters_with_a_password(version: str, pair: tuple[Account, Account], pythons: dict[str, str]) -> None:
    account, other = pair
    for method, secret in (("sudo", account.password), ("su", other.password), ("doas", account.password)):
        flags = "-" if method == "su" else "-n"
        got = enter(account, method, driver=pythons[version], flags=flags, user=other.name, password=secret)
        assert got["line"].split()[0] == other.name, got


def test_doas_enters_without_a_password(account: Account) -> None:
    assert enter(account, "doas", flags="-n")["line"].split()[0] == "root"


@pytest.mark.parametrize(
    "defaults",
    [
        ["requiretty"], ["use_pty"], ["log_output", "iolog_dir=/run/lock"], ["lecture=always"], ["!tty_tickets"], ["!env_reset"],
        ["passprompt_override"], ["pwfeedback"], ["insults"], ["passprompt=\\[secret\\] "], ["use_pty", "requiretty"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_escalation_works_with_defaults_in_sudoers(
    defaults: list[str], make_account: Callable[..., Account], tmp_path: Path
) -> None:
    defaults = [word.replace("/run/lock", str(tmp_path)) for word in defaults]
    account, other = make_account(sudo="password", sudo_defaults=defaults), make_account()
    got = enter(account, "sudo", flags="-H", user=other.name, password=account.password, size=1 << 20)
    assert got["same"], got
    if defaults != ["passprompt_override"]:
        wrong = enter(account, "sudo", flags="-Hk", user=other.name, password="n0t-th1s")
        assert wrong["kind"] == "password-wrong", wrong


@pytest.mark.parametrize("version", VERSIONS)
def test_binary_data_passes_unchanged(version: str, pair: tuple[Account, Account], pythons: dict[str, str]) -> None:
    account, other = pair
    for method, flags in (("sudo", ""), ("sudo", "-i"), ("su", ""), ("su", "-"), ("doas", "")):
        secret = other.password if method == "su" else account.password
        got = enter(account, method, driver=pythons[version], flags=flags, user=other.name, password=secret, size=4 << 20)
        assert got["same"] and got["noise"] == 0, got


SPECIAL_ARGUMENTS = [
    "it's", 'say "hi"', "back\\slash\\\\", "bang!", "$HOME `id` $(id)", "a\nb", "", "ü é 語", "*?[x]{a,b}~#", " lead", "%s %%",
]  # fmt: skip
SHOW_ARGUMENTS = """import os, sys
os.write(1, b"PMITOGEN-%s ready\\n" % sys.argv[1].encode())
print(ascii(sys.argv[2:]), flush=True)
"""


@pytest.mark.parametrize(
    "method, flags", [("su", ""), ("su", "-"), ("sudo", "-i"), ("sudo", "-s"), ("doas", "-s"), ("sudo", "-H")], ids=str
)
def test_arguments_pass_unchanged_through_every_shell(method: str, flags: str, shell_pair: tuple[Account, Account]) -> None:
    got = enter_with_arguments(*shell_pair, method, flags, SPECIAL_ARGUMENTS)
    assert got["up"], got
    assert got["line"] == ascii(SPECIAL_ARGUMENTS), got


@pytest.mark.parametrize("version", VERSIONS)
def test_arguments_pass_unchanged_under_every_python(
    version: str, pair: tuple[Account, Account], pythons: dict[str, str]
) -> None:
    for method, flags in (("su", "-"), ("sudo", "-i"), ("sudo", "KEY=é")):
        got = enter_with_arguments(*pair, method, flags, SPECIAL_ARGUMENTS, driver=pythons[version], locale="C")
        assert got["up"], got
        assert got["line"] == ascii(SPECIAL_ARGUMENTS), got


def enter_with_arguments(
    account: Account,
    other: Account,
    method: str,
    flags: str,
    args: list[str],
    driver: str = sys.executable,
    locale: str = "C.UTF-8",
) -> dict[str, Any]:
    password = other.password if method == "su" else account.password
    plan, _ = become.plan(method, flags=flags, user=other.name, password=password, timeout=TIMEOUT)
    token = secrets.token_hex(4)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(account.home), "SHELL": account.shell, "LC_ALL": locale}
    job = {
        "root": str(ROOT), "uid": account.uid, "gid": account.gid, "name": account.name, "plan": plan, "env": env, "token": token,
        "secrets": {"password": password},
        "command": [SYSTEM_PYTHON, "-c", SHOW_ARGUMENTS, token, *args],
    }  # fmt: skip
    # The locale must be set at the start, because Python reads its encodings only then.
    outer = {**os.environ, "LC_ALL": locale}
    done = subprocess.run([driver, str(DRIVER)], input=json.dumps(job), capture_output=True, text=True, timeout=60, env=outer)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# -- flags ------------------------------------------------------------------------------------------------------------------


def test_flags_of_sudo_have_their_effect(make_account: Callable[..., Account]) -> None:
    defaults = ["runcwd=*", "runchroot=*", "closefrom_override"]
    account = make_account(sudo=["ALL=(ALL:ALL) NOPASSWD: SETENV: ALL"], sudo_defaults=defaults)
    other = make_account()

    def enter_(flags: str, show: str = "HOME", **options: Any) -> list[str]:
        return str(enter(account, "sudo", flags=flags, show=show, env={"KEEP_ME": "kept"}, **options)["line"]).split()

    assert enter_("-H", user=other.name)[1] == str(other.home)
    assert enter_("-E -n", "KEEP_ME")[1] == "kept"
    assert enter_("--preserve-env=KEEP_ME", "KEEP_ME")[1] == "kept"
    assert enter_("-n", "KEEP_ME")[1] == "-"
    assert enter_("SET_ME=now -n", "SET_ME")[1] == "now"
    assert enter_("-D /usr")[2] == "/usr"
    assert enter_("-i", user=other.name)[2] == str(other.home)
    assert enter_("", user=f"#{other.uid}")[0] == other.name
    assert enter_("-g root -k", user=other.name)[0] == other.name
    assert enter_("-C 5 -P -N", user=other.name)[0] == other.name
    assert enter_("-R /", user=other.name)[0] == other.name


def test_doas_passes_variables_as_configured(make_account: Callable[..., Account]) -> None:
    other = make_account()
    for row, value in {"": "-", "keepenv": "kept", "setenv {{ KEEP_ME=set }}": "set"}.items():
        account = make_account(doas=[f"permit nopass {row} {{name}}"])
        got = enter(account, "doas", user=other.name, show="KEEP_ME", env={"KEEP_ME": "kept"})
        assert got["line"].split()[:2] == [other.name, value], (row, got)


@pytest.mark.parametrize("suffix", ["$", ".b-C_d@realm.example"])
def test_account_names_may_contain_special_characters(suffix: str, make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="password", doas="password"), make_account(suffix=suffix)
    for method, flags in (("sudo", "-H"), ("sudo", "-i"), ("su", "-"), ("doas", "")):
        secret = other.password if method == "su" else account.password
        got = enter(account, method, flags=flags, user=other.name, password=secret)
        assert got["up"] and got["line"].split()[0] == other.name, got


def test_flags_of_su_have_their_effect(pair: tuple[Account, Account]) -> None:
    account, other = pair

    def enter_(flags: str, show: str) -> list[str]:
        got = enter(account, "su", flags=flags, user=other.name, password=other.password, show=show, env={"KEEP_ME": "kept"})
        return str(got["line"]).split()

    assert enter_("-", "KEEP_ME") == [other.name, "-", str(other.home)]
    assert enter_("-l -w KEEP_ME", "KEEP_ME") == [other.name, "kept", str(other.home)]
    assert enter_("-m", "KEEP_ME")[1] == "kept"
    assert enter_("-m", "HOME")[1] == str(account.home)
    assert enter_("-f", "HOME")[1] == str(other.home)
    assert enter_("-s /bin/dash -P", "SHELL")[1] == "/bin/dash"


def test_become_exe_may_be_several_words(pair: tuple[Account, Account]) -> None:
    account, other = pair
    secret = account.password
    sudo = programs.find_program("sudo")
    assert enter(account, "sudo", exe="env NEW=1 sudo -k", flags="-E", password=secret)["up"]
    assert enter(account, "sudo", exe=sudo, flags="-k", password=secret)["up"]
    for method in ("sudo", "su"):
        got = enter(account, method, exe="sudo su -", user=other.name, password=secret, size=1 << 20)
        assert got["same"], got
        got = enter(account, method, exe="sudo -k su -", user=other.name, password=secret)
        assert got["line"] == f"{other.name} {other.home} {other.home}", got
    got = enter(account, "sudo", exe="sudo -k su -", user=other.name, password="n0t-th1s")
    assert got["kind"] == "password-wrong", got


def test_a_chain_works_through_sudo_with_use_pty(make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="password", sudo_defaults=["use_pty"]), make_account()
    got = enter(account, "su", exe="sudo su -", user=other.name, password=account.password, size=1 << 20)
    assert got["same"], got


def test_chdir_sets_the_directory(account: Account, tmp_path: Path) -> None:
    assert enter(account, "sudo", chdir="/usr/share")["line"].split()[2] == "/usr/share"
    got = enter(account, "sudo", chdir=str(tmp_path / "none"))
    assert got["kind"] == "other" and "cannot chdir" in got["message"], got


def test_escalation_works_with_missing_and_closed_homes(make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="nopasswd"), make_account(home=False)
    account.home.chmod(0o700)
    for method, flags in (("sudo", "-H"), ("sudo", "-i"), ("su", ""), ("su", "-")):
        secret = other.password if method == "su" else None
        got = enter(account, method, flags=flags, user=other.name, password=secret, cwd=str(account.home))
        assert got["up"], got


SLEEPER = "import os, sys, time\nos.write(1, b'PMITOGEN-%s ready\\n\\n' % sys.argv[1].encode())\ntime.sleep(600)"


@pytest.mark.parametrize("defaults", [[], ["use_pty"]], ids=str)
def test_closing_the_terminal_ends_a_command_that_reads_nothing(
    defaults: list[str], make_account: Callable[..., Account]
) -> None:
    account, other = make_account(sudo="nopasswd", doas="nopass", sudo_defaults=defaults), make_account()
    for method in ("sudo", "doas"):
        assert enter(account, method, user=other.name, code=SLEEPER)["up"]
        assert not wait_for(lambda: other.processes())


def wait_for(left: Callable[[], set[Any]]) -> set[Any]:
    until = time.monotonic() + 3
    while left() and time.monotonic() < until:
        time.sleep(0.02)
    return left()


# -- failed escalations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS[:2] + VERSIONS[-1:])
def test_a_wrong_password_is_reported(version: str, pair: tuple[Account, Account], pythons: dict[str, str]) -> None:
    account, other = pair

    def try_(method: str) -> dict[str, Any]:
        return enter(account, method, driver=pythons[version], user=other.name, password="not-this-one")

    # PAM delays each refusal by 2 to 3 seconds, so all three run at once.
    with ThreadPoolExecutor() as pool:
        for got in pool.map(try_, ("sudo", "su", "doas")):
            assert got["kind"] == "password-wrong" and "password is wrong" in got["message"], got


def test_a_missing_password_is_reported(pair: tuple[Account, Account]) -> None:
    account, other = pair
    for method, flags in (("sudo", "-H -S -n"), ("sudo", "-H"), ("su", ""), ("doas", ""), ("doas", "-n")):
        got = enter(account, method, flags=flags, user=other.name)
        assert got["kind"] == "password-missing", got
        assert got["seconds"] < 4


@pytest.mark.parametrize("method", ["sudo", "su", "doas"])
def test_an_unknown_account_is_reported(method: str, account: Account) -> None:
    got = enter(account, method, user="no.such-account", password="s3cret")
    assert got["kind"] == "unknown-user", got


def test_a_missing_permission_is_reported(make_account: Callable[..., Account]) -> None:
    account, other = make_account(), make_account()
    got = enter(account, "sudo", user=other.name, password=account.password)
    assert got["kind"] == "not-permitted" and "sudoers" in got["message"], got
    got = enter(account, "doas", user=other.name, password=account.password)
    assert got["kind"] == "not-permitted", got
    narrow = make_account(sudo=["ALL=(root) NOPASSWD: /bin/true"])
    got = enter(narrow, "sudo", user=other.name, password=narrow.password)
    assert got["kind"] == "not-permitted" and "not allowed to execute" in got["message"], got
    got = enter(narrow, "su", flags="-g root", user=other.name, password=other.password)
    assert got["kind"] == "not-permitted", got


def test_a_missing_become_program_is_reported(account: Account) -> None:
    for exe in ("/opt/none/sudo", "doesnotexist"):
        got = enter(account, "sudo", exe=exe)
        assert got["kind"] == "not-installed" and exe in got["message"], got


@pytest.mark.parametrize("method, flags", [("su", ""), ("su", "-"), ("sudo", "-i")], ids=str)
@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_a_nologin_shell_is_reported(method: str, flags: str, shell: str, make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="nopasswd"), make_account(shell=shell)
    got = enter(account, method, flags=flags, user=other.name, password=other.password if method == "su" else None)
    assert got["kind"] == "shell" and shell in got["message"], got


def test_an_expired_account_is_reported(make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="password"), make_account()
    subprocess.run(["chage", "-E", "0", other.name], check=True)
    got = enter(account, "su", user=other.name, password=other.password)
    assert got["kind"] == "account", got
    subprocess.run(["chage", "-E", "0", account.name], check=True)
    got = enter(account, "sudo", password=account.password)
    assert got["kind"] == "account", got


def test_an_expired_password_is_reported(make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="password"), make_account()
    subprocess.run(["chage", "-d", "0", account.name], check=True)
    subprocess.run(["chage", "-d", "0", other.name], check=True)
    got = enter(account, "su", user=other.name, password=other.password)
    assert got["kind"] == "account", got
    got = enter(account, "sudo", password=account.password)
    assert got["kind"] == "account", got


def test_a_missing_python_is_reported(make_account: Callable[..., Account]) -> None:
    account, other = make_account(sudo="nopasswd", doas="nopass"), make_account()
    for method, flags in (("sudo", "-n"), ("sudo", "-i"), ("doas", ""), ("su", ""), ("su", "-s /bin/sh"), ("su", "-")):
        for python in ("/nowhere/python3", "python3.99"):
            password = other.password if method == "su" else None
            got = enter(account, method, flags=flags, user=other.name, password=password, command=[python, "-c", "pass"])
            assert got["kind"] == "python" and python in got["message"], got


@pytest.mark.parametrize("text", ["", "Loading profile", "Token for pam_strange: "])
def test_a_missing_prompt_ends_at_the_timeout(text: str, account: Account, short_path: Path) -> None:
    fake = script(short_path, f"printf '%s' '{text}' >/dev/tty\nexec sleep 60\n")
    got = enter(account, "sudo", exe=fake, password="s3cret", timeout=2)
    assert got["kind"] == ("tty" if "Token" in text else "timeout"), got
    assert got["seconds"] < 3.5
    assert text.strip() in got["message"]


def test_a_program_that_ignores_signals_is_killed(account: Account, short_path: Path) -> None:
    fake = script(short_path, "trap '' HUP TERM\nwhile :; do sleep 1; done\n")
    got = enter(account, "sudo", exe=fake, timeout=1)
    assert got["kind"] == "timeout" and got["reaped"]


def test_a_host_without_terminals_is_reported(account: Account, short_path: Path) -> None:
    hide = "mount --bind /dev/null /dev/ptmx && mount -t tmpfs none /dev/pts"
    driver = script(short_path, f'exec unshare -m sh -c \'{hide} && exec {sys.executable} "$@"\' sh "$@"\n', name="python")
    for method in ("sudo", "su", "doas"):
        got = enter(account, method, driver=driver)
        assert got["kind"] == "tty" and "no terminal for it" in got["message"] and got["seconds"] < 2, got


def script(directory: Path, text: str, *, name: str = "sudo", interpreter: str = "/bin/sh") -> str:
    path = directory / name
    path.write_text(f"#!{interpreter}\n{text}")
    path.chmod(0o755)
    return str(path)


def test_the_last_output_of_a_failing_command_is_reported(account: Account) -> None:
    # The delay keeps the output from reaching the terminal before the command counts as started.
    code = "import os, sys, time\nos.write(1, b'PMITOGEN-%s ready\\nx\\n' % sys.argv[1].encode())\ntime.sleep(0.3)\n"
    code += "raise MemoryError('too little')"
    got = enter(account, "sudo", code=code)
    assert got["up"] and got["said"].endswith("MemoryError: too little'") and "\n" not in got["said"], got


# -- prompts of programs that are not installed -----------------------------------------------------------------------------

ASK = """stty -echo </dev/tty; printf '%s' '{prompt}' >/dev/tty
IFS= read -r answer </dev/tty; stty echo </dev/tty; echo >/dev/tty
[ "$answer" = '{right}' ] || {{ echo "{wrong}" >&2; exit 1; }}
"""
# p: the prompt that sudo was started with
RUN = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
OWN = 'for a; do [ "$last" = -p ] && p=$a && break; last=$a; done\n'
OWN_PROMPT = "'\"$p\"'"
RUN_STRING = 'while [ "$1" != -c ]; do shift; done; exec /bin/sh -c "$2"\n'

PROMPTS = [
    ("sudo", "{p}"), ("sudo", "{p} "), ("sudo", "[sudo: {p}] Password: "), ("sudo", "[sudo: {p}] Mot de passe : "),
    ("sudo", "\x1b[1;31m{p}\x1b[0m "), ("su", "Password:"), ("su", "Password: "), ("su", "密码："), ("su", "パスワード: "),
    ("su", "Mot de passe : "), ("su", "{user}'s Password:"), ("su", "[su: authenticate] Password: "),
    ("su", "\x1b[1mPassword:\x1b[0m "),
    ("su", "Password for {user}@EXAMPLE.ORG: "), ("su", "LDAP Password: "), ("doas", "doas (bob@host) password: "),
    ("doas", "\rdoas (bob@host) password: "), ("doas", "Passwort: "),
]  # fmt: skip


def asking(method: str, prompt: str, user: str, directory: Path) -> str:
    """Create a program of this name that prints this prompt and records the answers."""
    text = prompt.replace("'", "'\\''").replace("{p}", OWN_PROMPT).replace("{user}", user)
    ask = ASK.format(prompt=text, right="s3cret", wrong="no").replace("[ ", f'echo "$answer" >>{directory}/told; [ ', 1)
    return script(directory, OWN + ask + (RUN_STRING if method == "su" else RUN), name=method)


@pytest.mark.parametrize(("method", "prompt"), PROMPTS)
def test_password_prompts_are_answered(method: str, prompt: str, account: Account, short_path: Path) -> None:
    short_path.chmod(0o777)
    fake = asking(method, prompt, account.name, short_path)
    got = enter(account, method, exe=fake, user=account.name, password="s3cret")
    assert got["up"], got
    assert (short_path / "told").read_text() == "s3cret\n"


OTHER_QUESTIONS = [
    ("sudo", "Delete everything? "), ("sudo", "root@other password: "), ("sudo", "Password: "),
    ("sudo", "[sudo] password for bob: "),
    ("sudo", "PMITOGEN-0123456789abcdef password:"), ("sudo", "not {p}"), ("sudo", "{p} or so: "), ("sudo", "Passwort: "),
    ("su", "root@other password: "), ("su", "Delete everything? "), ("su", "Password of the database: "),
    ("su", "sudo Password: "), ("su", "Enter the Password: "), ("su", "[sudo: authenticate] Password: "),
    ("su", "x's Password: "), ("su", "doas (a@b) password: "),
    ("doas", "root@other password: "), ("doas", "doas (a) (b) password: "), ("doas", "Password for the vault: "),
]  # fmt: skip


def test_other_prompts_are_not_answered(account: Account, short_path: Path) -> None:
    """Their programs switch echo off, too."""

    def try_(number: int) -> tuple[dict[str, Any], list[str]]:
        directory = short_path / str(number)
        directory.mkdir()
        directory.chmod(0o777)
        method, prompt = OTHER_QUESTIONS[number]
        fake = asking(method, prompt, account.name, directory)
        got = enter(account, method, exe=fake, user=account.name, password="s3cret", timeout=2)
        notes = directory / "told"
        return got, notes.read_text().split() if notes.exists() else []

    with ThreadPoolExecutor(5) as pool:
        for question, (got, notes) in zip(OTHER_QUESTIONS, pool.map(try_, range(len(OTHER_QUESTIONS))), strict=True):
            assert got["kind"] == "timeout" and "it waits at" in got["message"], (question, got)
            assert "s3cret" not in notes, question


def test_the_password_is_sent_once(account: Account, short_path: Path) -> None:
    ask = ASK.format(prompt=OWN_PROMPT, right="s3cret", wrong="no")
    got = enter(account, "sudo", exe=script(short_path, OWN + ask + ask + RUN), password="s3cret")
    assert got["kind"] == "password-wrong", got


STATE = "echo PMITOGEN-$1 ready; echo $(grep SigIgn /proc/self/status) $(ls /proc/self/fd)"


def ignored_signals(line: str) -> int:
    """Return the set of signals in a line of STATE, in the kernel's notation, without two that glibc's posix_spawn ignores."""
    return int(line.split()[1], 16) & ~(1 << 31 | 1 << 32)


@pytest.mark.parametrize("version", VERSIONS)
def test_become_programs_inherit_no_descriptor_and_no_ignored_signal(
    version: str, account: Account, short_path: Path, pythons: dict[str, str]
) -> None:
    """No descriptor above 2 (ls has one for the directory); Python's ignoring of SIGPIPE is not inherited.

    Signals that were ignored before pmitogen's Python started (signal 32, on some machines) stay ignored.
    """
    token = "abc"
    options = {"command": ["/bin/sh", "-c", STATE, "sh", token], "token": token, "exe": script(short_path, RUN)}
    got = enter(account, "sudo", driver=pythons[version], **options)
    untouched = account.run("/bin/sh", "-c", STATE, "sh", token).stdout.splitlines()[1]
    assert not ignored_signals(got["line"]) & ~ignored_signals(untouched), (got, untouched)
    assert got["line"].split()[2:] == ["0", "1", "2", "3"], got


@pytest.mark.parametrize("prompt", ["Verification code: ", "One-time password (OATH) for `bob': ", "Passcode or option (1-3): "])
def test_a_second_factor_is_answered(prompt: str, account: Account, short_path: Path) -> None:
    factors = OWN + ASK.format(prompt=OWN_PROMPT, right="s3cret", wrong="no")
    factors += ASK.format(prompt=prompt.replace("'", "'\\''"), right="123456", wrong="no")
    fake = script(short_path, factors + RUN)
    assert enter(account, "sudo", exe=fake, password="s3cret", otp="123456")["up"]
    got = enter(account, "sudo", exe=fake, password="s3cret")
    assert got["kind"] == "password-missing" and "second factor" in got["message"], got


def test_a_prompt_that_would_show_the_password_is_not_answered(account: Account, short_path: Path) -> None:
    fake = script(short_path, OWN + 'printf "$p" >/dev/tty; IFS= read -r a </dev/tty; ' + RUN)
    got = enter(account, "sudo", exe=fake, password="s3cret", timeout=2)
    assert got["kind"] == "tty" and "'password:'" in got["message"], got


@pytest.mark.parametrize("then", ["echo over", "printf '\\rWhat else? '", "stty echo </dev/tty"])
def test_a_late_secret_is_not_sent(then: str, account: Account, short_path: Path) -> None:
    """The program has stopped waiting meanwhile, so the next reader of the terminal would get it."""
    text = f'stty -echo </dev/tty; printf "$p" >/dev/tty; sleep 0.3; {then} >/dev/tty; '
    text += f'IFS= read -r a </dev/tty; echo "$a" >{short_path}/told'
    short_path.chmod(0o777)
    got = enter(account, "sudo", exe=script(short_path, OWN + text), password="s3cret", timeout=2, delay=0.8)
    assert got["kind"] in ("timeout", "tty"), got
    assert not (short_path / "told").exists()


LATE_FLUSH = """import os, sys, termios, time
os.write(2, b"Password: ")
time.sleep(0.3)
mode = termios.tcgetattr(0)
mode[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSAFLUSH, mode)
if os.read(0, 100) != b"s3cret\\n":
    sys.exit("su: Authentication failure")
mode[3] |= termios.ECHO
termios.tcsetattr(0, termios.TCSAFLUSH, mode)
os.execv("/bin/sh", ["sh", "-c", sys.argv[3]])
"""


def test_the_password_is_sent_after_su_has_flushed_its_input(account: Account, short_path: Path) -> None:
    """su of Linux-PAM shows its prompt, and then switches echo off and discards earlier input."""
    fake = script(short_path, LATE_FLUSH, name="su", interpreter=SYSTEM_PYTHON)
    got = enter(account, "su", exe=fake, user=account.name, password="s3cret", size=1 << 16)
    assert got["up"] and got["same"] and got["noise"] == 0, got


def test_a_password_in_the_output_is_masked(account: Account, short_path: Path) -> None:
    fake = script(short_path, OWN + ASK.format(prompt=OWN_PROMPT, right="other", wrong="refused: $answer") + RUN)
    got = enter(account, "sudo", exe=fake, password="s3cret")
    assert got["kind"] == "other" and "refused: ********" in got["message"], got


def test_erased_text_and_escape_sequences_are_not_reported(account: Account, short_path: Path) -> None:
    """Erased asterisks, colours, the title of a window."""
    text = "**\\b \\b\\b \\b\\033[0K\\033]0;title\\007\\033(B\\033[31mno luck\\033[0m"
    fake = script(short_path, f"printf '{text}' >/dev/tty\nexit 1\n")
    got = enter(account, "sudo", exe=fake, password="s3cret")
    assert got["message"].endswith("it said 'no luck'"), got


def test_a_password_may_contain_any_character(make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="password", password="p\x03\x04 ü\x15#\x7f'\"$\\x")
    got = enter(account, "sudo", password=account.password)
    assert got["up"], got
