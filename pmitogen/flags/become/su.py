"""su's options, those of util-linux 2.38. The su of shadow, BusyBox and the BSDs has a subset of them.

Options go before the user and ``-c`` after it: the BSDs read a ``-c`` before the user as a login class.
"""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.flags.become.getopt import (
    Interpretation,
    Option,
    ParsedOption,
    ParsedOptions,
    check_repeats,
    check_user,
    parse,
    render,
)
from pmitogen.flags.ssh.settings import Finding, Verdict

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED
_COMMAND_IS_SET = "pmitogen gives the command; remove it"

TABLE = (
    Option("l", "login", "no", HONOURED, "passed to su; output of the profile is skipped"),
    Option("c", "command", "required", REFUSED, _COMMAND_IS_SET),
    Option("", "session-command", "required", REFUSED, _COMMAND_IS_SET),
    Option("f", "fast", "no", HONOURED, "passed to su"),
    Option("g", "group", "required", HONOURED, "passed to su, which allows it for root only"),
    Option("G", "supp-group", "required", HONOURED, "passed to su, which allows it for root only"),
    Option("m", "preserve-environment", "no", HONOURED, "passed to su"),
    Option("p", "preserve-environment", "no", HONOURED, "passed to su"),
    Option("P", "pty", "no", HARMLESS, "there is a terminal already"),
    Option("s", "shell", "required", HONOURED, "passed to su; the command is quoted for that shell"),
    Option("w", "whitelist-environment", "required", HONOURED, "passed to su"),
    Option("h", "help", "no", REFUSED, "runs no command; remove it"),
    Option("V", "version", "no", REFUSED, "runs no command; remove it"),
)

# "Password" in the languages that su is translated to, as Ansible's su plugin lists them.
PROMPTS = (
    "Password", "암호", "パスワード", "Adgangskode", "Contraseña", "Contrasenya", "Hasło", "Heslo", "Jelszó", "Lösenord",
    "Mật khẩu", "Mot de passe", "Parola", "Parool", "Pasahitza", "Passord", "Passwort", "Salasana", "Sandi", "Senha",
    "Wachtwoord", "ססמה", "Лозинка", "Парола", "Пароль", "गुप्तशब्द", "शब्दकूट", "సంకేతపదము", "හස්පදය", "密码", "密碼",
    "口令",
)  # fmt: skip


def parse_options(arguments: Sequence[str], origin: str) -> tuple[ParsedOptions, list[str]]:
    """Return the options in *arguments* and the operands among them (``-`` and users). Raises UsageError."""
    operands: list[str] = []

    def takes_operand(arg: str) -> bool:
        operands.append(arg)
        return True

    return parse(arguments, TABLE, takes_operand, "su", origin), operands


def interpret(arguments: Sequence[str], *, user: str | None, password: bool, origin: str) -> Interpretation:
    """Interpret *arguments*. *user*: become_user, None: unknown. *password*: True if a password is set. Raises UsageError."""
    del password  # no option of su changes its password prompt
    parsed, operands = parse_options(arguments, origin)
    interpretation = Interpretation(form="string", shell="login")
    for given in parsed.given:
        _apply(interpretation, given, origin)
    login = TABLE[0]
    for arg in operands:
        if arg == "-":
            _apply(interpretation, ParsedOption(login, None, "-"), origin)
        else:
            check_user(interpretation, ParsedOption(Option("", "user", "required", HARMLESS, ""), arg, arg), user, origin)
    if "login" in interpretation.options and "preserve-environment" in interpretation.options:
        reason = "su ignores it together with a login shell; remove one of them"
        interpretation.findings.append(Finding("--preserve-environment", origin, Verdict.CONFLICT, reason))
    check_repeats(interpretation, parsed, origin, repeatable="supp-group")
    return interpretation


def _apply(interpretation: Interpretation, given: ParsedOption, origin: str) -> None:
    name = given.option.long
    interpretation.note(given, origin=origin)
    again = name in interpretation.options
    interpretation.options[name] = True if given.value is None else given.value
    if name == "shell":
        interpretation.shell = given.value
    if given.option.verdict is HONOURED and not again or name == "supp-group":
        interpretation.argv += render(given)
