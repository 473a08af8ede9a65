"""Resolve an argument vector to keyword values: command line, files, canonical name, second pass, defaults, tokens.

The steps and their order are those of ``ssh -G``. build_settings.py turns the result into Settings,
report/explain.py prints it. Source: main() in ssh.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh import config_file
from pmitogen.flags.ssh.canonicalize import Canonicalizer
from pmitogen.flags.ssh.command_line import CommandLine, parse
from pmitogen.flags.ssh.config_file import Mode, Reader
from pmitogen.flags.ssh.keywords import TABLE
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.match_criteria import ParseState, RequestedSession
from pmitogen.flags.ssh.openssh_version import OPENSSH_10, Program
from pmitogen.flags.ssh.option_values import OptionError, Options, Origin
from pmitogen.flags.ssh.tokens import connection_hash, expand, expand_tilde
from pmitogen.flags.ssh.values.jump import Jump
from pmitogen.flags.ssh.values.numbers import valid_user
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.patterns import ascii_lower

# Keywords that decide on the second pass get their defaults before it: fill_default_options_for_canonicalization().
_RESOLVED_FIRST = (("canonicalizehostname", "false"), ("canonicalizemaxdots", 1), ("canonicalizefallbacklocal", True))
ANSIBLE_DEFAULT_ORIGIN = "default ssh_args"  # origin of the options that Ansible adds by default: parsed, without effect

# The session of plays and of the library, for Match: one connection runs all their commands, by /bin/sh as with Ansible's ssh.
PMITOGEN_SESSION = RequestedSession("exec", "/bin/sh -c pmitogen")


@dataclasses.dataclass(eq=False, repr=False)
class Resolution:
    """The resolved keywords of one destination."""

    options: Options
    line: CommandLine
    local: LocalHost
    program: Program
    original: str  # as typed
    host: str  # to connect to
    tokens: dict[str, str]

    @property
    def user(self) -> str:
        """The remote account name."""
        return str(self.options.get("user", self.local.user))

    def jump(self) -> Jump | None:
        """ProxyJump, unless it is "none"."""
        jump = self.options.get("proxyjump")
        return None if jump is None or jump.host == "none" else jump

    def text(self, key: str) -> str | None:
        """Return a string value for which "none" means unset."""
        value = self.options.get(key)
        return None if value is None or ascii_lower(value) == "none" else str(value)

    def expanded(self, key: str, value: str, home: bool = True, dollar: bool = True) -> str:
        """Expand a path or text of keyword *key*. Raises UsageError."""
        try:
            text = expand_tilde(value, self.local) if home else value
            return expand(text, self.tokens, self.local.environ if dollar else None)
        except ConfigValueError as problem:
            raise self.error(key, problem) from None

    def path(self, key: str, value: str) -> str:
        """Expand the path of keyword *key*; a relative path starts at the caller's directory. Raises UsageError."""
        return self.local.caller.absolute(self.expanded(key, value))

    def error(self, key: str, problem: object) -> UsageError:
        """Return the error for an invalid value of keyword *key*."""
        row = TABLE.get(key.lower())
        origin = self.options.origins.get(key.lower(), Origin("command line"))
        return origin.error(f"{row.name if row else key}: {problem}")


def make_origins(argv: Sequence[str], origins: Sequence[str] | None) -> list[Origin]:
    """Return the origin of each argument; a missing one is the command line."""
    named = [*(origins or ()), *["command line"] * len(argv)][: len(argv)]
    return [Origin(place, explicit=True, effective=place != ANSIBLE_DEFAULT_ORIGIN) for place in named]


def resolve_keywords(
    argv: Sequence[str],
    origins: Sequence[str] | None = None,
    caller: CallerEnvironment | None = None,
    default_host: str | None = None,
    program: Program = OPENSSH_10,
    default_session: RequestedSession | None = None,
) -> Resolution:
    """Resolve an ssh command line (without the program's name) as ssh does. Raises UsageError.

    *default_session*: for Match, where the command line requests no session; default: a shell, as with ssh.
    """
    local = LocalHost.detect(caller)
    context = ParseState(Options(), local, program, "", "")
    line = parse(context, [arg.partition("\0")[0] for arg in argv], make_origins(argv, origins), default_host)
    if default_session is not None and not line.command and not context.options.has("sessiontype"):
        context.session = default_session
    else:
        context.session = RequestedSession(command=" ".join(line.command))
    _read_files(context, line)
    try:
        host = _final_host(context, line)
    except ConfigValueError as problem:
        raise context.options.origins.get("hostname", Origin("command line")).error(f"HostName: {problem}") from None
    _check_options(context, host)
    tokens = _tokens(context, line, host)
    return Resolution(context.options, line, local, program, context.original, host, tokens)


def _read_files(context: ParseState, line: CommandLine) -> None:
    reader = Reader(context)
    if line.config is not None:
        if ascii_lower(line.config) != "none" and not reader.read_file(line.config, Mode(user=True, explicit=True)):
            raise OptionError(f"-F: cannot open the configuration file {line.config}", "", "-F", line.config)
        return
    if context.local.home:
        reader.read_file(f"{context.local.home}/.ssh/config", Mode(user=True, explicit=False, check=True))
    reader.read_file(config_file.SYSTEM_FILE, Mode(user=False, explicit=False))


def _final_host(context: ParseState, line: CommandLine) -> str:
    """Return the host to connect to; read the files a second time if necessary."""
    options = context.options
    host = context.host
    for key, value in _RESOLVED_FIRST:
        options.values.setdefault(key, value)
    if options.has("hostname"):
        host = expand(options.get("hostname"), {"h": host})
        options.values["hostname"] = host
    canonicalizer = Canonicalizer(options)
    numeric = canonicalizer.is_address(host)
    host = host if numeric else ascii_lower(host)
    if canonicalizer.enabled or numeric:
        host = canonicalizer.canonical(host)
    else:
        host = canonicalizer.follow_alias(host)
    if context.wants_final or canonicalizer.enabled:
        options.values["hostname"] = host
        context.host, context.final = host, True
        _read_files(context, line)
    return host


def _check_options(context: ParseState, host: str) -> None:
    options = context.options
    if options.get("connectionattempts") == 0:
        raise options.origins["connectionattempts"].error("ConnectionAttempts: 0 attempts never connect")
    jump = options.get("proxyjump")
    if jump is not None and jump.host != "none":
        user = options.get("user", context.local.user)
        port = options.get("port", 22)
        if jump.host == host and (jump.port or 22) == port and (jump.user or user) == user:
            problem = f"ProxyJump: {jump.host} is the destination itself: the jump host loops"
            raise options.origins["proxyjump"].error(problem)
    for key in ("globalknownhostsfile", "userknownhostsfile"):
        if len(files := options.get(key, ())) > 1 and ascii_lower(files[0]) == "none":
            raise options.origins[key].error(f'{TABLE[key].name}: "none" must stand alone')


def _tokens(context: ParseState, line: CommandLine, host: str) -> dict[str, str]:
    """Return the tokens for most keywords. Expands User first, which may use all but two of them."""
    options, local = context.options, context.local
    alias = options.get("hostkeyalias")
    if alias is not None:
        options.values["hostkeyalias"] = alias = ascii_lower(alias)
    jump = options.get("proxyjump")
    jump_host = "" if jump is None or jump.host == "none" else jump.host
    port = str(options.get("port", 22))
    tokens = {
        "L": local.short_host, "i": str(local.uid), "k": alias if alias is not None else context.original, "l": local.host,
        "n": context.original, "p": port, "d": local.home, "h": host, "u": local.user, "j": jump_host,
    }  # fmt: skip
    if not context.program.modern:
        del tokens["j"]
    user = options.get("user", local.user)
    if options.has("user") and not line.user_given and context.program.modern:
        user = _expand_user(options, tokens, local)
    tokens["r"] = user
    tokens["C"] = connection_hash(local.host, host, port, user, jump_host if context.program.modern else "")
    return tokens


def _expand_user(options: Options, tokens: dict[str, str], local: LocalHost) -> str:
    written = options.get("user")
    origin = options.origins["user"]
    try:
        user = expand(written, tokens, local.environ)
    except ConfigValueError as problem:
        raise origin.error(f"User: {problem}") from None
    if user != written and not valid_user(user):
        raise origin.error(f"User: {user!r} contains invalid characters")
    options.values["user"] = user
    return user
