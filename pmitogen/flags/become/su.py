"""su's options (util-linux 2.38, which shadow's, BusyBox's and the BSDs' are subsets of).

Options go before the user and ``-c`` after it: the BSDs read a ``-c`` before the user as a login class.
"""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.flags.become.getopt import Given, Reading, Scanned, Switch, check_repeats, check_user, render, scan
from pmitogen.flags.ssh.settings import Finding, Verdict

_H, _X, _E, _R = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED
_OURS = "the command is ours to give: remove it"

TABLE = (
    Switch("l", "login", "no", _H, "passed to su; what the profile prints is skipped"),
    Switch("c", "command", "required", _R, _OURS),
    Switch("", "session-command", "required", _R, _OURS),
    Switch("f", "fast", "no", _H, "passed to su"),
    Switch("g", "group", "required", _H, "passed to su, which allows it to root alone"),
    Switch("G", "supp-group", "required", _H, "passed to su, which allows it to root alone"),
    Switch("m", "preserve-environment", "no", _H, "passed to su"),
    Switch("p", "preserve-environment", "no", _H, "passed to su"),
    Switch("P", "pty", "no", _X, "there is a terminal already"),
    Switch("s", "shell", "required", _H, "passed to su; the command is quoted for that shell"),
    Switch("w", "whitelist-environment", "required", _H, "passed to su"),
    Switch("h", "help", "no", _R, "runs no command: remove it"),
    Switch("V", "version", "no", _R, "runs no command: remove it"),
)

# "Password" in the languages that su is translated to, as Ansible's su plugin lists them.
PROMPTS = (
    "Password", "암호", "パスワード", "Adgangskode", "Contraseña", "Contrasenya", "Hasło", "Heslo", "Jelszó", "Lösenord",
    "Mật khẩu", "Mot de passe", "Parola", "Parool", "Pasahitza", "Passord", "Passwort", "Salasana", "Sandi", "Senha",
    "Wachtwoord", "ססמה", "Лозинка", "Парола", "Пароль", "गुप्तशब्द", "शब्दकूट", "సంకేతపదము", "හස්පදය", "密码", "密碼",
    "口令",
)  # fmt: skip


def scan_words(words: Sequence[str], origin: str) -> tuple[Scanned, list[str]]:
    """The options in *words*, and the operands among them: ``-`` and users. Raises UsageError."""
    operands: list[str] = []

    def operand(word: str) -> bool:
        operands.append(word)
        return True

    return scan(words, TABLE, operand, "su", origin), operands


def read(words: Sequence[str], *, user: str | None, password: bool, origin: str) -> Reading:
    """What *words* mean. *user* is become_user (None: unknown), *password* whether there is one. Raises UsageError."""
    del password  # su asks or does not, whatever its options
    scanned, operands = scan_words(words, origin)
    reading = Reading(form="string", shell="login")
    for given in scanned.given:
        _apply(reading, given, origin)
    login = TABLE[0]
    for word in operands:
        if word == "-":
            _apply(reading, Given(login, None, "-"), origin)
        else:
            check_user(reading, Given(Switch("", "user", "required", _X, ""), word, word), user, origin)
    if "login" in reading.options and "preserve-environment" in reading.options:
        why = "su ignores it beside a login: remove one of them"
        reading.findings.append(Finding("--preserve-environment", origin, Verdict.CONFLICT, why))
    check_repeats(reading, scanned, origin, may="supp-group")
    return reading


def _apply(reading: Reading, given: Given, origin: str) -> None:
    name = given.switch.long
    reading.note(given, origin=origin)
    again = name in reading.options
    reading.options[name] = True if given.value is None else given.value
    if name == "shell":
        reading.shell = given.value
    if given.switch.verdict is _H and not again or name == "supp-group":
        reading.argv += render(given)
