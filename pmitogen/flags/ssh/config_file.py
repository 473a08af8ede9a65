"""Read ssh_config(5) files and ``-o`` options, which are parsed the same way.

Every line is parsed and checked whether or not its block applies; only the lines of blocks that apply have an effect. The first
bad line raises UsageError with its file and number. Source: readconf.c of OpenSSH 10.5.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
from typing import NamedTuple

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.file_lines import Line, parse_lines, parse_option
from pmitogen.flags.ssh.keywords import BLOCK_KEYWORDS, NAMES, TABLE, Keyword
from pmitogen.flags.ssh.lexer import Arguments, ConfigValueError, UnknownKeyword
from pmitogen.flags.ssh.match_criteria import ParseState, matches
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.option_values import Origin
from pmitogen.flags.ssh.tokens import expand
from pmitogen.util import patterns
from pmitogen.util.patterns import ascii_lower
from pmitogen.util.suggestions import did_you_mean

MAX_DEPTH = 16  # of Include
SYSTEM_DIR = "/etc/ssh"
SYSTEM_FILE = "/etc/ssh/ssh_config"


class Mode(NamedTuple):
    """Parameters for reading one file."""

    user: bool  # relative Includes are relative to ~/.ssh, not /etc/ssh
    explicit: bool  # given with -F
    check: bool = False  # of owner and permissions
    check_only: bool = False  # included from a block that does not apply: check the lines only
    depth: int = 0


class Reader:
    """Read lines and files into the options of one destination."""

    def __init__(self, context: ParseState) -> None:
        self.context = context
        self._value_context = ValueContext(context.program, context.local.environ)
        self._option_context = ValueContext(context.program, context.local.environ, command_line=True)

    def read_option(self, text: str, origin: Origin) -> None:
        """Read one ``-o`` option. Raises UsageError."""
        try:
            line = parse_option(text)
            if line is None:
                return
            if line.keyword:
                self._check_known(line.written)
            line.check()
            if line.keyword in BLOCK_KEYWORDS:
                raise ConfigValueError(f"{line.keyword}: not allowed on a command line; put it into a file given with -F")
            if line.row is None:
                self.context.options.record(line.keyword, origin)
            else:
                self._default_checked(line.row, line.value(line.row, self._option_context), origin)
        except ConfigValueError as problem:
            raise origin.error(problem) from None

    def read_file(self, path: str, mode: Mode, active: bool = True) -> bool:
        """Read one file; a relative path is relative to the caller's directory. Return False if it cannot be opened.

        Raises UsageError.
        """
        if mode.depth > MAX_DEPTH:
            raise UsageError(f"{path}: Include: files are nested more than {MAX_DEPTH} deep")
        try:
            with open(self.context.local.caller.absolute(path), "rb") as stream:
                if mode.check:
                    _check_owner(path, os.fstat(stream.fileno()))
                text = stream.read()
        except IsADirectoryError:  # fopen(3) opens a directory and reads nothing
            return True
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return False
        for line in parse_lines(text):
            try:
                active = self._line(line, path, mode, active)
            except ConfigValueError as problem:
                raise _origin(path, line, mode).error(problem) from None
        return True

    def _line(self, line: Line, path: str, mode: Mode, active: bool) -> bool:
        """Read one line; return whether its block, or the block that it opens, applies."""
        if line.keyword:
            self._check_known(line.written)
        row = line.row
        if row is not None:
            value = line.value(row, self._value_context)
            if active or row.even_if_unmatched:
                self._default_checked(row, value, _origin(path, line, mode))
            return active
        arguments = line.arguments()
        if line.keyword == "host":
            active = self._host(arguments, mode)
        elif line.keyword == "match":
            active = matches(arguments, self.context) and not mode.check_only
        elif line.keyword == "include":
            self._include(arguments, mode, active)
        else:
            arguments.take_rest()
            if active:
                self.context.options.record(line.keyword, _origin(path, line, mode))
        if arguments.left:
            raise ConfigValueError(f"{line.written}: extra arguments at end of line: {arguments.take_rest()[0]!r}")
        return active

    def _check_known(self, written: str) -> None:
        keyword = ascii_lower(written)
        if keyword in NAMES:
            return
        ignored = self.context.options.get("ignoreunknown")
        if ignored is None or patterns.match_list(keyword, ignored, lower=True) != 1:
            hint = did_you_mean(written, (row.name for row in TABLE.values()))
            raise UnknownKeyword(f"{written}: unknown option{hint}; if another ssh supports it, add it to IgnoreUnknown", written)

    def _default_checked(self, row: Keyword, value: object, origin: Origin) -> None:
        try:
            self.context.options.set_default(row, value, origin)
        except ConfigValueError as problem:
            raise ConfigValueError(f"{row.name}: {problem}") from None

    def _host(self, arguments: Arguments, mode: Mode) -> bool:
        active = False
        while (pattern := arguments.next()) is not None:
            if not pattern:
                raise ConfigValueError("Host: empty argument")
            if mode.check_only:
                arguments.take_rest()
                return False
            negated = pattern.startswith("!")
            if patterns.match_pattern(self.context.host, pattern[1:] if negated else pattern):
                if negated:
                    arguments.take_rest()
                    return False
                active = True
        return active

    def _include(self, arguments: Arguments, mode: Mode, active: bool) -> None:
        while (written := arguments.next()) is not None:
            if not written:
                raise ConfigValueError("Include: empty argument")
            try:
                path = expand(written, self.context.tokens(), self.context.local.environ)
            except ConfigValueError as problem:
                raise ConfigValueError(f"Include: {problem}") from None
            if path.startswith("~") and not mode.user:
                raise ConfigValueError(f"Include: bad path {path!r}: a system file cannot include from a home directory")
            if not path.startswith(("/", "~")):
                path = f"{'~/.ssh' if mode.user else SYSTEM_DIR}/{path}"
            inner = mode._replace(check=True, check_only=mode.check_only or not active, depth=mode.depth + 1)
            local = self.context.local
            for file in _glob(path, local.caller.absolute(local.environ.get("HOME") or local.home)):
                if not self.read_file(file, inner, active) and os.path.exists(file):
                    raise ConfigValueError(f"Include: cannot read {file}")


def _origin(path: str, line: Line, mode: Mode) -> Origin:
    return Origin(f"{path} line {line.number}", explicit=mode.explicit)


def _check_owner(path: str, status: os.stat_result) -> None:
    is_safe = status.st_uid in (0, os.getuid()) and not status.st_mode & 0o002
    if not is_safe or (status.st_mode & 0o020 and not _has_private_group(status)):
        raise UsageError(f"{path}: bad owner or permissions: it must belong to you or root, and only its owner may write to it")


def _has_private_group(status: os.stat_result) -> bool:
    """Return True if the owner is the only member of the file's group. Debian, which has a group for each user, allows such
    a group to write."""
    try:
        group = grp.getgrgid(status.st_gid)
        owner = pwd.getpwuid(status.st_uid)
        primary = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group.gr_gid]
    except (KeyError, OSError):
        return False
    others = any(uid != owner.pw_uid for uid in primary) or any(name != owner.pw_name for name in group.gr_mem)
    return not others and bool(primary or group.gr_mem)


def _glob(pattern: str, home: str) -> list[str]:
    """glob(3) with GLOB_TILDE: sorted by bytes, backslash escapes, ``~`` by $HOME."""
    if pattern.startswith("~/") or pattern == "~":
        pattern = glob.escape(home) + pattern[1:]
    elif pattern.startswith("~"):
        pattern = os.path.expanduser(pattern)  # a named account's
    pattern = re.sub(r"\\(.)", lambda match: f"[{match[1]}]", pattern)
    try:
        return sorted(glob.glob(pattern), key=os.fsencode)
    except (OSError, ValueError, re.error, RecursionError):
        return []
