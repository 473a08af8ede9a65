"""Parse the command line of ssh(1): clusters of flags, attached or separate arguments, ``--``, and the destination.

Flags take effect in order, and most replace the value set before; ``-o`` options work like configuration lines: the first wins.
More flags may follow the destination, then a command. Source: main() in ssh.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.config_file import Reader
from pmitogen.flags.ssh.keywords import TABLE
from pmitogen.flags.ssh.lexer import Arguments, ConfigValueError, OptionConflict
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.match_criteria import ParseState
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.option_values import Origin
from pmitogen.flags.ssh.tokens import expand_tilde
from pmitogen.flags.ssh.values import jump, numbers
from pmitogen.flags.ssh.values.forwards import read_forward

# Flags that set a keyword, replacing its value.
_FLAG_VALUES: dict[str, tuple[tuple[str, object], ...]] = {
    "4": (("addressfamily", "inet"),),
    "6": (("addressfamily", "inet6"),),
    "A": (("forwardagent", True),),
    "a": (("forwardagent", False),),
    "C": (("compression", "yes"),),
    "f": (("forkafterauthentication", True), ("stdinnull", True)),
    "g": (("gatewayports", True),),
    "K": (("gssapiauthentication", True), ("gssapidelegatecredentials", True)),
    "k": (("gssapidelegatecredentials", False),),
    "n": (("stdinnull", True),),
    "q": (("loglevel", "SILENT"),),
    "T": (("requesttty", "false"),),
    "X": (("forwardx11", True),),
    "x": (("forwardx11", False),),
    "Y": (("forwardx11", True), ("forwardx11trusted", True)),
}
_FLAG_KEYWORDS = {"B": "bindinterface", "b": "bindaddress", "I": "pkcs11provider", "S": "controlpath"}
_LEVELS = ("SILENT", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG2", "DEBUG3")
_MUX_VERBS = ("check", "conninfo", "channels", "forward", "exit", "stop", "cancel", "proxy")


@dataclasses.dataclass(eq=False, repr=False)
class CommandLine:
    """Parts of the command line that are not keywords."""

    host: str | None = None
    host_origin: Origin | None = None
    user_given: bool = False  # by -l or user@host
    command: tuple[str, ...] = ()
    command_origin: Origin = Origin("command line")
    config: str | None = None  # -F
    logfile: str | None = None  # -E
    stdio: str | None = None  # -W, as written
    verbose: int = 0
    syslog: bool = False
    flags: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)  # every flag, with its argument
    warnings: list[tuple[str, Origin, str]] = dataclasses.field(default_factory=list)


def identity_problem(arg: str, local: LocalHost) -> tuple[str, str] | None:
    """Return the path named by *arg*, a value of ``-i``, and the reason why it is not accessible; None if it is accessible.

    Raises ConfigValueError for an unknown user.
    """
    path = expand_tilde(arg, local)
    try:
        os.stat(local.caller.absolute(path))
    except (OSError, ValueError) as problem:
        return path, getattr(problem, "strerror", None) or str(problem)
    return None


class Parser:
    """Parse one argument vector into the options of one destination."""

    def __init__(self, context: ParseState, argv: Sequence[str], origins: Sequence[Origin]) -> None:
        self.context = context
        self.options = context.options
        self.line = CommandLine()
        self._argv = argv
        self._origins = origins
        self._reader = Reader(context)
        self._value_context = ValueContext(context.program, context.local.environ, command_line=True)

    def parse(self) -> CommandLine:
        """Parse the whole argument vector. Raises UsageError."""
        at, ended = self._flags(0)
        if at < len(self._argv):
            self._refuse_stray_word(at - 1 if at and self._argv[at - 1] == "--" else at)
            self._destination(self._argv[at], self._origins[at])
            at += 1
            if not ended:
                at, _ = self._flags(at)
            self.line.command = tuple(self._argv[at:])
            if at < len(self._argv):
                self.line.command_origin = self._origins[at]
        return self.line

    def _refuse_stray_word(self, at: int) -> None:
        """Raise OptionError if the argument at *at*, which ends the flags, is not of the origin that gives the host."""
        origin = self._origins[at]
        if origin.place != self._origins[-1].place:
            raise origin.error(f"{self._argv[at]!r}: not an option; quote a value that has spaces, or remove it")

    def _flags(self, at: int) -> tuple[int, bool]:
        """Parse flags from *at* on; return the index after them, and whether ``--`` ended them."""
        while at < len(self._argv):
            arg = self._argv[at]
            if arg == "--":
                return at + 1, True
            if len(arg) < 2 or not arg.startswith("-"):
                break
            at = self._cluster(at) + 1
        return at, False

    def _cluster(self, at: int) -> int:
        """Parse one cluster of flags; return the index of the last argument used."""
        arg = self._argv[at]
        origin = self._origins[at]
        for i, letter in enumerate(arg[1:], 1):
            flag = FLAGS.get(letter)
            if flag is None:
                raise origin.error(f"-{letter}: unknown flag{f' in {arg!r}' if len(arg) > 2 else ''}")
            if not flag.argument:
                self._apply(letter, "", origin)
                continue
            if i + 1 < len(arg):
                self._apply(letter, arg[i + 1 :], origin)
            elif at + 1 < len(self._argv):
                at += 1
                self._apply(letter, self._argv[at], origin)
            else:
                raise origin.error(f"-{letter}: option requires an argument: {flag.argument}")
            break
        return at

    def _apply(self, letter: str, arg: str, origin: Origin) -> None:
        self.line.flags.append((letter, arg if FLAGS[letter].argument else None))
        if letter == "o":
            self._reader.read_option(arg, origin)
            return
        try:
            if letter in _FLAG_VALUES:
                for key, value in _FLAG_VALUES[letter]:
                    self.options.override(key, value, origin, f"-{letter}")
            elif letter in _FLAG_KEYWORDS:
                self.options.override(_FLAG_KEYWORDS[letter], arg, origin, f"-{letter}")
            else:
                getattr(self, f"_flag_{letter}", self._note_unhandled)(letter, arg, origin)
        except ConfigValueError as problem:
            conflict = isinstance(problem, OptionConflict)
            raise origin.error(f"-{letter}: {problem}", f"-{letter}", None if conflict else arg) from None

    def _note_unhandled(self, letter: str, arg: str, origin: Origin) -> None:
        if letter == "1":
            raise OptionConflict("protocol 1 is not supported; remove it")
        if letter == "O" and arg not in _MUX_VERBS:
            raise ConfigValueError(f"unknown command {arg!r}")
        self.options.record(f"-{letter}", origin)

    def _force(self, letter: str, key: str, value: object, origin: Origin) -> None:
        self.options.override(key, value, origin, f"-{letter}")

    def _default_checked(self, letter: str, key: str, arg: str, origin: Origin) -> None:
        """Set a keyword if it is unset, with the checks of a configuration line."""
        if self.options.has(key):
            return
        row = TABLE[key]
        self.options.set_default(row, row.value_type.parse(Arguments(key, arg, [arg]), self._value_context), origin, f"-{letter}")

    def _flag_c(self, letter: str, arg: str, origin: Origin) -> None:
        if arg.startswith("-"):
            raise ConfigValueError(f"unknown cipher {arg!r}")
        self._override_checked("ciphers", letter, arg, origin)

    def _flag_m(self, letter: str, arg: str, origin: Origin) -> None:
        if arg[:1] in ("+", "-", "^"):
            raise ConfigValueError(f"unknown MAC {arg!r}")
        self._override_checked("macs", letter, arg, origin)

    def _override_checked(self, key: str, letter: str, arg: str, origin: Origin) -> None:
        """Replace the value of a keyword, with the checks of a configuration line."""
        self._force(letter, key, TABLE[key].value_type.parse(Arguments(key, arg, [arg]), self._value_context), origin)

    def _flag_D(self, letter: str, arg: str, origin: Origin) -> None:
        self._forward("dynamicforward", letter, arg, origin)

    def _flag_L(self, letter: str, arg: str, origin: Origin) -> None:
        self._forward("localforward", letter, arg, origin)

    def _flag_R(self, letter: str, arg: str, origin: Origin) -> None:
        self._forward("remoteforward", letter, arg, origin)

    def _forward(self, key: str, letter: str, arg: str, origin: Origin) -> None:
        environ = self.context.local.environ
        remote = letter == "R"
        try:
            forward = read_forward(arg, environ, dynamic=letter == "D", remote=remote)
        except ConfigValueError:
            if not remote:
                raise
            forward = read_forward(arg, environ, dynamic=True, remote=True)
        self.options.set_default(TABLE[key], (forward,), origin, f"-{letter}")

    def _flag_E(self, letter: str, arg: str, origin: Origin) -> None:
        self.options.record("-E", origin)
        if origin.effective:
            self.line.logfile = arg

    def _flag_e(self, letter: str, arg: str, origin: Origin) -> None:
        self._override_checked("escapechar", letter, arg, origin)

    def _flag_F(self, letter: str, arg: str, origin: Origin) -> None:
        self.options.record("-F", origin)
        self.line.config = arg

    def _flag_i(self, letter: str, arg: str, origin: Origin) -> None:
        if problem := identity_problem(arg, self.context.local):
            self.line.warnings.append(("-i", origin, f"identity file {problem[0]} is not accessible: {problem[1]}; skipped"))
            return
        self.options.set_default(TABLE["identityfile"], (expand_tilde(arg, self.context.local),), origin, "-i")

    def _flag_J(self, letter: str, arg: str, origin: Origin) -> None:
        if self.options.has("proxyjump"):
            raise OptionConflict("only one -J is allowed; separate the hops by commas")
        if self.options.has("proxycommand"):
            raise OptionConflict("cannot be combined with ProxyCommand; remove one of them")
        self.options.set_default(TABLE["proxyjump"], jump.read_jump(arg, strict=True), origin, "-J")

    def _flag_l(self, letter: str, arg: str, origin: Origin) -> None:
        if not self.options.has("user"):
            self.options.set_default(TABLE["user"], arg, origin, "-l")
            self.line.user_given = True

    def _flag_M(self, letter: str, arg: str, origin: Origin) -> None:
        again = self.options.get("controlmaster") == "true"
        self._force(letter, "controlmaster", "ask" if again else "true", origin)

    def _flag_N(self, letter: str, arg: str, origin: Origin) -> None:
        if self.options.get("sessiontype", "none") != "none":
            raise OptionConflict("cannot be combined with -s or SessionType; remove one of them")
        self._force(letter, "sessiontype", "none", origin)
        self._force(letter, "requesttty", "false", origin)

    def _flag_P(self, letter: str, arg: str, origin: Origin) -> None:
        if not self.options.has("tag"):
            self.options.set_default(TABLE["tag"], arg, origin, "-P")

    def _flag_p(self, letter: str, arg: str, origin: Origin) -> None:
        self._default_checked(letter, "port", arg, origin)

    def _flag_s(self, letter: str, arg: str, origin: Origin) -> None:
        if self.options.get("sessiontype", "subsystem") != "subsystem":
            raise OptionConflict("cannot be combined with -N or SessionType; remove one of them")
        self._force(letter, "sessiontype", "subsystem", origin)

    def _flag_t(self, letter: str, arg: str, origin: Origin) -> None:
        again = self.options.get("requesttty") == "true"
        self._force(letter, "requesttty", "force" if again else "true", origin)

    def _flag_v(self, letter: str, arg: str, origin: Origin) -> None:
        if not origin.effective:
            return
        level = self.options.get("loglevel", "INFO")
        if not self.line.verbose:
            self.line.verbose = 1
            self._force(letter, "loglevel", "DEBUG", origin)
        elif level != "DEBUG3":
            self.line.verbose += 1
            self._force(letter, "loglevel", _LEVELS[_LEVELS.index(level) + 1], origin)

    def _flag_W(self, letter: str, arg: str, origin: Origin) -> None:
        if self.line.stdio is not None:
            raise OptionConflict("given twice")
        read_forward(arg, self.context.local.environ, dynamic=True)
        self.line.stdio = arg
        self._force(letter, "requesttty", "false", origin)
        self._force(letter, "sessiontype", "none", origin)

    def _flag_w(self, letter: str, arg: str, origin: Origin) -> None:
        if not self.options.has("tunnel"):
            self._force(letter, "tunnel", "point-to-point", origin)
        self._override_checked("tunneldevice", letter, arg, origin)

    def _flag_y(self, letter: str, arg: str, origin: Origin) -> None:
        self.line.syslog = True
        self.options.record("-y", origin)

    def _destination(self, arg: str, origin: Origin) -> None:
        try:
            uri = numbers.ssh_uri(arg)
        except ConfigValueError as problem:
            raise origin.error(f"destination: {problem}", "destination") from None
        port: int | None = None
        user: str | None = None
        if uri is not None:
            user, host, port = uri
        elif "@" in arg:
            user, _, host = arg.rpartition("@")
        else:
            host = arg
        if user == "" or not host:
            missing = "user" if user == "" else "host"
            raise origin.error(f"destination: {arg!r} has no {missing} name; use [USER@]HOST", "destination")
        if user is not None and not self.options.has("user"):
            self.options.set_default(TABLE["user"], user, origin, "destination")
            self.line.user_given = True
        if port is not None and not self.options.has("port"):
            self.options.set_default(TABLE["port"], port, origin, "destination")
        self.line.host, self.line.host_origin = host, origin


def parse(context: ParseState, argv: Sequence[str], origins: Sequence[Origin], default_host: str | None) -> CommandLine:
    """Parse a command line into the options of *context*, and check its names. Raises UsageError."""
    line = Parser(context, argv, origins).parse()
    if line.host is None:
        if not default_host:
            raise UsageError("destination: the host name is missing; use [USER@]HOST at the end", "command line")
        line.host = default_host
    place = line.host_origin or Origin("command line")
    user = context.options.get("user")
    if user is not None and not numbers.valid_user(user):
        raise context.options.origins.get("user", place).error(f"User: {user!r} contains invalid characters", "user", user)
    if not numbers.valid_host(line.host):
        raise place.error(f"destination: {line.host!r} contains invalid characters", "destination", line.host)
    if line.syslog and line.logfile is not None:
        raise place.error("-y: cannot be combined with -E; remove one of them")
    context.original = context.host = line.host
    return line
