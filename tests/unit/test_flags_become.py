"""become_flags, become_exe and become_user as tables: input, and the resulting argument vector or error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmitogen.errors import UsageError
from pmitogen.flags.become import doas, getopt, su, sudo
from pmitogen.flags.become import plan as become
from pmitogen.flags.ssh.settings import Verdict
from pmitogen.protocol.escalation_plan import EscalationPlan

P = ["-p", "{prompt}"]


def argv(
    method: str, flags: str = "", *, user: str | None = "bob", password: str | None = None, exe: str | None = None
) -> list[str]:
    plan, _ = become.plan(method, flags=flags, user=user, password=password, exe=exe, timeout=10)
    return list(plan["argv"])


SUDO = [
    # flags, arguments without a password, arguments with one (None: the same)
    ("", ["sudo", *P, "-u", "bob", "--"], None),
    ("-H -S -n", ["sudo", "-H", "-n", *P, "-u", "bob", "--"], ["sudo", "-H", *P, "-u", "bob", "--"]),
    ("-HSn", ["sudo", "-H", "-n", *P, "-u", "bob", "--"], ["sudo", "-H", *P, "-u", "bob", "--"]),
    ("-nH", ["sudo", "-H", "-n", *P, "-u", "bob", "--"], ["sudo", "-H", *P, "-u", "bob", "--"]),
    ("--non-interactive --set-home", ["sudo", "-H", "-n", *P, "-u", "bob", "--"], ["sudo", "-H", *P, "-u", "bob", "--"]),
    ("-ubob", ["sudo", *P, "-u", "bob", "--"], None),
    ("-Hu bob", ["sudo", "-H", *P, "-u", "bob", "--"], None),
    ("--user=bob", ["sudo", *P, "-u", "bob", "--"], None),
    ("-gstaff", ["sudo", "-g", "staff", *P, "-u", "bob", "--"], None),
    ("-g 'domain users'", ["sudo", "-g", "domain users", *P, "-u", "bob", "--"], None),
    ("--group staff", ["sudo", "-g", "staff", *P, "-u", "bob", "--"], None),
    ("--gro=staff", ["sudo", "-g", "staff", *P, "-u", "bob", "--"], None),
    ("-E", ["sudo", "-E", *P, "-u", "bob", "--"], None),
    ("--preserve-env", ["sudo", "-E", *P, "-u", "bob", "--"], None),
    ("--preserve-env=A,B", ["sudo", "--preserve-env=A,B", *P, "-u", "bob", "--"], None),
    ("-r sysadm_r -t sysadm_t", ["sudo", "-r", "sysadm_r", "-t", "sysadm_t", *P, "-u", "bob", "--"], None),
    ("-C 10 -D /tmp -R /srv/x", ["sudo", "-C", "10", "-D", "/tmp", "-R", "/srv/x", *P, "-u", "bob", "--"], None),
    ("-k -N -P -B", ["sudo", "-k", "-N", "-P", *P, "-u", "bob", "--"], None),
    ("-a pam -c staff", ["sudo", "-a", "pam", "-c", "staff", *P, "-u", "bob", "--"], None),
    ("-p 'give it: ' -H", ["sudo", "-H", *P, "-u", "bob", "--"], None),
    ("A=1 -H B='x y'", ["sudo", "-H", *P, "-u", "bob", "A=1", "B=x y", "--"], None),
    ("-H -- A=1", ["sudo", "-H", *P, "-u", "bob", "A=1", "--"], None),
    ("-H --", ["sudo", "-H", *P, "-u", "bob", "--"], None),
    ("-i", ["sudo", "-i", *P, "-u", "bob", "--"], None),
    ("-sH", ["sudo", "-s", "-H", *P, "-u", "bob", "--"], None),
]


@pytest.mark.parametrize("flags, without, with_", SUDO, ids=[row[0] for row in SUDO])
def test_sudo_flags_become_arguments(flags: str, without: list[str], with_: list[str] | None) -> None:
    assert argv("sudo", flags) == without
    assert argv("sudo", flags, password="x") == (without if with_ is None else with_)


OTHERS = [
    ("su", "", ["su", "bob", "-c"]),
    ("su", "-", ["su", "-l", "bob", "-c"]),
    ("su", "-l", ["su", "-l", "bob", "-c"]),
    ("su", "- -l --login", ["su", "-l", "bob", "-c"]),
    ("su", "- bob", ["su", "-l", "bob", "-c"]),
    ("su", "-mp", ["su", "-m", "bob", "-c"]),
    ("su", "-fs /bin/sh", ["su", "-f", "-s", "/bin/sh", "bob", "-c"]),
    ("su", "--shell=/bin/sh -P", ["su", "-s", "/bin/sh", "bob", "-c"]),
    ("su", "-g staff -G a -G b -w X,Y", ["su", "-g", "staff", "-G", "a", "-G", "b", "-w", "X,Y", "bob", "-c"]),
    ("doas", "", ["doas", "-u", "bob", "--"]),
    ("doas", "-n", ["doas", "-n", "-u", "bob", "--"]),
    ("doas", "-u bob", ["doas", "-u", "bob", "--"]),
    ("doas", "-ns", ["doas", "-n", "-u", "bob", "--"]),
    ("doas", "-a passwd", ["doas", "-a", "passwd", "-u", "bob", "--"]),
]


@pytest.mark.parametrize("method, flags, wanted", OTHERS, ids=[" ".join(row[:2]) for row in OTHERS])
def test_su_and_doas_flags_become_arguments(method: str, flags: str, wanted: list[str]) -> None:
    assert argv(method, flags) == wanted


def test_n_of_doas_is_omitted_with_a_password() -> None:
    assert argv("doas", "-ns", password="x") == ["doas", "-u", "bob", "--"]


EXES = [
    ("sudo", "/usr/local/bin/sudo", "-H", ["/usr/local/bin/sudo", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "dzdo", "-H", ["dzdo", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "'/opt/my tools/become'", "-H", ["/opt/my tools/become", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "env X=1 Y='2 3' sudo", "-H", ["env", "X=1", "Y=2 3", "sudo", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "env -i X=1 become", "", ["env", "-i", "X=1", "become", *P, "-u", "bob", "--"]),
    ("sudo", "nice -n 5 sudo", "", ["nice", "-n", "5", "sudo", *P, "-u", "bob", "--"]),
    ("sudo", "sudo -k", "-H", ["sudo", "-k", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "sudo su -", "-H -n", ["sudo", "-H", "-n", *P, "--", "su", "-l", "bob", "-c"]),
    ("su", "sudo su -", "", ["sudo", *P, "--", "su", "-l", "bob", "-c"]),
    ("su", "sudo -n su", "-m", ["sudo", "-n", *P, "--", "su", "-m", "bob", "-c"]),
    ("sudo", "sudo -u admin sudo", "-H", ["sudo", *P, "-u", "admin", "--", "sudo", "-H", *P, "-u", "bob", "--"]),
    ("sudo", "sudo -u admin -- sudo --", "-H", ["sudo", *P, "-u", "admin", "--", "sudo", "-H", *P, "-u", "bob", "--"]),
    ("su", "doas su", "-", ["doas", "--", "su", "-l", "bob", "-c"]),
]


@pytest.mark.parametrize("method, exe, flags, wanted", EXES, ids=[row[1] + " " + row[2] for row in EXES])
def test_become_exe_and_flags_become_arguments(method: str, exe: str, flags: str, wanted: list[str]) -> None:
    assert argv(method, flags, exe=exe) == wanted


REFUSED = [
    ("sudo", "-A", "become_flags: sudo -A: needs an askpass"),
    ("sudo", "--askpass", "sudo --askpass"),
    ("sudo", "-b", "use async"),
    ("sudo", "-C 2", "use 3 or more"),
    ("sudo", "-C x", "use 3 or more"),
    ("sudo", "-e", "runs no command"),
    ("sudo", "-l", "runs no command"),
    ("sudo", "-v", "runs no command"),
    ("sudo", "-V", "runs no command"),
    ("sudo", "-K", "runs no command"),
    ("sudo", "-U joe", "belongs to -l"),
    ("sudo", "-h", "remove it"),
    ("sudo", "--host=there", "inventory"),
    ("sudo", "-T 10", "timeout"),
    ("sudo", "-u alice", "use become_user: alice"),
    ("sudo", "-ualice", "use become_user: alice"),
    ("sudo", "-i -s", "--login and --shell"),
    ("sudo", "-iE", "--login and --preserve-env"),
    ("sudo", "-g a -g b", "given twice, as a and as b"),
    ("sudo", "-H ls /", "ls /: a command is not allowed"),
    ("sudo", "-x", "-x: unknown option"),
    ("sudo", "-Hx", "-x: unknown option (in -Hx)"),
    ("sudo", "--nonsense", "--nonsense: unknown option"),
    ("sudo", "--pre", "ambiguous option; use one of --preserve-env, --preserve-groups"),
    ("sudo", "--login=yes", "takes no value"),
    ("sudo", "-g", "-g: needs a value"),
    ("sudo", "--group", "--group: needs a value"),
    ("sudo", "-H 'x", "close the quote"),
    ("sudo", "-D $HOME", "flags are not read by a shell"),
    ("sudo", "-H; id", "flags are not read by a shell"),
    ("su", "-c id", "pmitogen gives the command"),
    ("su", "--session-command=id", "pmitogen gives the command"),
    ("su", "-h", "runs no command"),
    ("su", "alice", "use become_user: alice"),
    ("su", "-s /bin/sh -s /bin/bash", "given twice"),
    ("doas", "-C /etc/doas.conf", "runs no command"),
    ("doas", "-L", "runs no command"),
    ("doas", "-u alice", "use become_user: alice"),
    ("doas", "--user=bob", "--user: unknown option"),
    ("doas", "id", "a command is not allowed"),
]


@pytest.mark.parametrize("method, flags, message", REFUSED, ids=[" ".join(row[:2]) for row in REFUSED])
def test_unsupported_flags_are_refused_in_one_line(method: str, flags: str, message: str) -> None:
    with pytest.raises(UsageError) as e:
        argv(method, flags)
    assert message in e.value.message
    assert "\n" not in e.value.message
    assert e.value.message.startswith("become_flags: ")


@pytest.mark.parametrize(
    "method, exe, message",
    [
        ("sudo", "sudo ls", "ls: not sudo, su or doas"),
        ("sudo", "su -", "use become_method: su"),
        ("su", "sudo", "use become_method: sudo"),
        ("sudo", "env X=1", "names no program"),
        ("sudo", "sudo su alice", "use become_user: alice"),
        ("sudo", "sudo | tee", "not read by a shell"),
    ],
)
def test_an_invalid_become_exe_is_refused(method: str, exe: str, message: str) -> None:
    with pytest.raises(UsageError, match="^become_exe") as e:
        argv(method, exe=exe)
    assert message in e.value.message


def test_a_dollar_in_quotes_is_literal() -> None:
    assert argv("sudo", "-g 'a$b'")[1:3] == ["-g", "a$b"]


@pytest.mark.parametrize("user", ["-x", "a\nb", "a\0b", "\x7f"])
def test_an_invalid_account_name_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="^become_user"):
        argv("sudo", user=user)


@pytest.mark.parametrize("user", ["#1000", "o'hara", "a b", "DOMAIN\\joe", "joe@example.org", "ünal", "with$", "a;b"])
def test_an_account_name_is_one_argument(user: str) -> None:
    assert user in argv("sudo", user=user)
    assert user in argv("su", user=user)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match="pbrun"):
        become.plan("pbrun", timeout=1)
    with pytest.raises(UsageError, match="pbrun"):
        become.explain_become("pbrun", "")


def make(method: str = "sudo", **options: Any) -> EscalationPlan:
    return become.plan(method, **{"user": "bob", "timeout": 5, **options})[0]


def test_a_plan_has_all_fields() -> None:
    plan = make(password="", otp="", chdir="", user=None)
    assert (plan["secrets"], plan["chdir"], plan["user"]) == ([], None, "root")
    plan = make("su", password="s3cret", otp="123456", prompt_l10n=["Geheim"], flags="-s /bin/x", chdir="/d")
    assert (plan["form"], plan["stdin"], plan["shell"], plan["prompts"]) == ("string", "tty", "/bin/x", ["Geheim"])
    assert (plan["secrets"], plan["chdir"], plan["timeout"]) == (["password", "otp"], "/d", 5.0)
    assert "s3cret" not in str(plan) and "123456" not in str(plan)
    assert json.loads(json.dumps(plan)) == plan
    assert "Пароль" in make("su")["prompts"]


@pytest.mark.parametrize(
    "method, flags, exe, form, shell, stdin, asking",
    [
        ("sudo", "", None, "argv", None, "pipe", "sudo"),
        ("sudo", "-i", None, "sudo-shell", "login", "pipe", "sudo"),
        ("sudo", "-s", None, "sudo-shell", None, "pipe", "sudo"),
        ("su", "-", None, "string", "login", "tty", "su"),
        ("su", "", "sudo su -", "string", "login", "pipe", "sudo"),
        ("su", "", "sudo -u admin su -", "string", "login", "tty", "sudo su"),
        ("su", "", "env A=1 su", "string", "login", "tty", "su"),
        ("doas", "", None, "argv", None, "pipe", "doas"),
        ("doas", "-s", None, "own-shell", None, "pipe", "doas"),
    ],
)
def test_the_form_of_the_command_follows_from_the_program(
    method: str, flags: str, exe: str | None, form: str, shell: str | None, stdin: str, asking: str
) -> None:
    plan = make(method, flags=flags, exe=exe)
    assert (plan["form"], plan["shell"], plan["stdin"], plan["asking"]) == (form, shell, stdin, asking.split())


def test_flags_are_reported_with_their_verdict() -> None:
    _, findings = become.plan("sudo", flags="-H -S -n -p x -B -u bob A=1", user="bob", password="x", timeout=1)
    verdicts = {finding.option: finding.verdict for finding in findings}
    assert verdicts == {
        "-H": Verdict.HONOURED, "-S": Verdict.EMULATED, "-n": Verdict.EMULATED, "-p": Verdict.EMULATED, "-B": Verdict.HARMLESS,
        "-u": Verdict.HARMLESS, "A": Verdict.HONOURED,
    }  # fmt: skip
    _, findings = become.plan("su", flags="- -m", user="bob", timeout=1)
    assert [f.verdict for f in findings] == [Verdict.HONOURED, Verdict.HONOURED, Verdict.CONFLICT]


def test_explain_reports_each_flag() -> None:
    answer = become.explain_become("sudo", "-HSn -u bob --preserve-env=A -A")
    assert answer["options"] == {
        "set-home": True, "stdin": True, "non-interactive": True, "user": "bob", "preserve-env": "A", "askpass": True,
    }  # fmt: skip
    verdicts = [row["verdict"] for row in answer["report"]]
    assert verdicts == ["honoured", "emulated", "honoured", "harmless", "honoured", "refused"]
    assert set(answer["report"][0]) == {"option", "from", "verdict", "why"}
    assert all(row["why"] and row["from"] == "command line" for row in answer["report"])
    assert become.explain_become("su", ["-s", "/bin/my sh", "-"])["options"] == {"shell": "/bin/my sh", "login": True}
    assert become.explain_become("doas", ["-n", "-u", "x"])["options"] == {"non-interactive": True, "user": "x"}
    assert json.dumps(answer)


# -- the tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [sudo.TABLE, su.TABLE, doas.TABLE], ids=["sudo", "su", "doas"])
def test_the_tables_of_options_are_consistent(table: tuple[getopt.Option, ...]) -> None:
    shorts = [row.short for row in table if row.short]
    assert len(set(shorts)) == len(shorts)
    assert all(len(row.short) <= 1 and row.value in ("no", "required", "optional") for row in table)
    assert all(row.reason for row in table if row.long not in ("user", "u"))


VALUES = st.text(st.characters(codec="ascii", min_codepoint=48, max_codepoint=122, categories=["Ll", "Lu", "Nd"]), min_size=1)


@given(st.lists(st.tuples(st.sampled_from([row for row in sudo.TABLE if row.short]), VALUES), max_size=6))
def test_rendered_options_parse_to_the_same(choices: list[tuple[getopt.Option, str]]) -> None:
    options = [getopt.ParsedOption(row, value if row.value == "required" else None, "-" + row.short) for row, value in choices]
    apart = [word for option in options for word in getopt.render(option)]
    joined = ["".join(getopt.render(option)) for option in options]
    for args in (apart, joined):
        scanned, assignments = sudo.parse_options(args, "test")
        assert scanned.given == tuple(options)
        assert not assignments and not scanned.rest
