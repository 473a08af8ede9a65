"""Parse the command line, run the subcommand, and print its errors.

An error is one line on stderr, ``pmitogen COMMAND: where: what, and what to do``. Exit code 1; 2 if the command line is wrong;
130 after Ctrl-C. A closed pipe is not an error.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pmitogen
from pmitogen.cli.colour import paint
from pmitogen.cli.errors import CommandLineError, Parser, exit_code, from_os_error
from pmitogen.cli.json_output import errors_as_json
from pmitogen.errors import Error
from pmitogen.util.peer_text import one_line
from pmitogen.util.suggestions import did_you_mean

# The function of a command: takes its arguments, or its parsed options; returns the exit code.
_Run = Callable[[Any], int]

# Each command is the function ``run`` of a module of this package.
_MODULES = {
    "setup": "setup",
    "plugin-path": "setup",
    "demo": "demo.play",
    "explain": "explain",
    "ssh": "ssh.main",
    "cp": "cp.main",
    "sftp": "sftp.main",
    "keygen": "keygen.main",
    "agent": "agent.main",
    "add": "agent.add",
    "copy-id": "copy_id",
    "ping": "ping",
    "keyscan": "keyscan",
    "ssh-keyscan": "keyscan_openssh",  # for the programs of setup --shims; not listed
    "trust": "trust",
    "hubs": "hubs",
    "trace": "trace.main",
    "version": "version",
    "completion": "completion",
    "manual": "manual",
}
# These parse all arguments after them themselves.
_RAW = {"ssh", "cp", "sftp", "keygen", "agent", "add", "copy-id", "demo", "ping", "keyscan", "ssh-keyscan", "trust"}

_EPILOG = "See also: pmitogen COMMAND --help. In Ansible: run pmitogen setup, then set ansible_connection: pmitogen."


def main(argv: Sequence[str] | None = None) -> int:
    """See :func:`pmitogen.cli.main`."""
    _prepare_output()
    args = list(sys.argv[1:] if argv is None else argv)
    command = "pmitogen"
    if not args:
        sys.stderr.write(build_parser().format_help())
        return 2
    try:
        if args and args[0] in _RAW:
            command += " " + args[0]
            return _load(args[0], "run")(args[1:])
        _check_command(args[0])
        options = _parse(args)
        command += " " + options.command
        with errors_as_json(getattr(options, "json", False)):
            code = _load(options.command, options.function)(options)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # argparse: 0 after --help, 2 after an error
        return end.code if isinstance(end.code, int) else 1
    except Error as error:
        return _fail(f"{command}: {error.message}", exit_code(error))
    except BrokenPipeError:
        # The reader has closed the pipe. Without this, Python reports it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _fail(f"{command}: {from_os_error(error).message}")


class _Diagnostics(io.FileIO):
    """Standard error. Text that cannot be written, as on a full disk, is lost: no command fails for that."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError:
            return len(data)


def _prepare_output() -> None:
    """Make stdout and stderr write every character, all three streams work where they are closed, and stderr where it is full."""
    closed = [stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)]
    if any(closed):
        _open_null()
    if closed[0]:
        sys.stdin = open(0, closefd=False)
    if closed[1]:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a server's text may have characters that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is not sys.__stderr__:  # a program that calls main() has replaced it
        return
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    raw = io.BufferedWriter(_Diagnostics(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, errors="backslashreplace", line_buffering=True)


def _open_null() -> None:
    """Open the null device for those of the descriptors 0 to 2 that are closed: a file that is opened later must not get one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _check_command(arg: str) -> None:
    """Raise CommandLineError if the first argument is neither a command nor an option of the whole program."""
    parser = build_parser()
    if arg.startswith("-"):
        known = [text for action in parser.arguments for text in (*action.option_strings, "--help")]
        if not arg.startswith("--") or any(name.startswith(arg) for name in known):
            return
        raise CommandLineError(f"{arg}: unknown option{did_you_mean(arg, known)}; see pmitogen --help")
    if arg not in _MODULES:
        known = [name for name, _, _ in parser.commands]
        raise CommandLineError(f"{arg}: unknown command{did_you_mean(arg, known)}; see pmitogen --help")


def _parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse the options before the first ``--``. argparse would also drop further ``--``, differently in each Python version."""
    if "--" not in args:
        end = _end_of_own_options(args)
        args = [*args[:end], "--", *args[end:]]
    end = args.index("--")
    options = build_parser().parse(args[:end])
    rest = list(args[end + 1 :])
    if rest and options.command != "explain":
        build_parser().error(f"unexpected arguments: {' '.join(rest)}")
    if options.command == "explain":
        options.arguments += rest
    return options


def _end_of_own_options(args: Sequence[str]) -> int:
    """Return the number of leading arguments that are pmitogen's own; for explain, options of the program follow them."""
    if args[:1] != ["explain"]:
        return len(args)
    at, program = 1, False
    while at < len(args):
        arg = args[at]
        if arg == "-F":
            at += 1
        elif not arg.startswith("-") and not program:
            program = True
        elif arg not in ("--json", "--help", "-h") and not arg.startswith("-F"):
            break
        at += 1
    return min(at, len(args))


def _load(command: str, function: str) -> _Run:
    run: _Run = getattr(importlib.import_module(f"pmitogen.cli.{_MODULES[command]}"), function)
    return run


def _fail(message: str, code: int = 1) -> int:
    sys.stdout.flush()
    sys.stderr.write(paint(one_line(message), "red", sys.stderr) + "\n")
    return code


def build_parser() -> Parser:
    """Return the parser of the whole command line; ping, trust, keyscan, ssh and demo parse their arguments themselves."""
    parser = Parser(prog="pmitogen", description="Ansible, and your own tools, over SSH without an ssh program.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"pmitogen {pmitogen.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, function: str = "run") -> Parser:
        made = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        made.set_defaults(function=function)
        parser.commands.append((name, help, made))
        return made

    setup = add("setup", "make 'ansible_connection: pmitogen' work for this user")
    setup.add_argument("--remove", action="store_true", help="remove the link and the stored payloads")
    setup.add_argument(
        "--shims",
        metavar="DIR",
        help="instead: create programs with OpenSSH's names (ssh ...) in DIR, for rsync, git and others that run them",
    )
    add("plugin-path", "print the directory for connection_plugins in ansible.cfg", function="plugin_path")
    add("demo", "run a small playbook against a temporary SSH server")
    _add_explain(add("explain", "show how the options of ssh, sudo, su or doas are resolved"))
    add("ssh", "run a command or a shell on a host, with ssh's own command line: pmitogen ssh [SSH OPTIONS] HOST [COMMAND]")
    add("cp", "copy files between machines, with scp's own command line: pmitogen cp [OPTIONS] SOURCE... TARGET")
    add("sftp", "list, copy and change files on a host, with sftp's own command line: pmitogen sftp [OPTIONS] HOST")
    add(
        "keygen",
        "make, show and change keys, and edit known_hosts, with ssh-keygen's own command line: pmitogen keygen [OPTIONS]",
    )
    add("agent", "hold keys in memory for other programs, with ssh-agent's own command line: pmitogen agent [OPTIONS] [COMMAND]")
    add("add", "add keys to an agent, list and remove them, with ssh-add's own command line: pmitogen add [OPTIONS] [FILE...]")
    add(
        "copy-id",
        "put a public key into an account's authorized_keys, with ssh-copy-id's command line: pmitogen copy-id [OPTIONS] HOST",
    )
    add("ping", "log in to a host, start Python there, and print the time of each step: pmitogen ping [SSH OPTIONS] HOST")
    add("keyscan", "print the host keys of servers, in the format of known_hosts: pmitogen keyscan [OPTIONS] HOST...")
    add("trust", "show the host keys of a server, and record them after confirmation: pmitogen trust [SSH OPTIONS] HOST")
    hubs = add("hubs", "list the running hubs, which hold the connections of a run")
    hubs.add_argument(
        "--stop",
        nargs="?",
        const="kept",
        metavar="PID",
        help="stop the hubs that no run uses now, or the hub with this pid",
    )
    hubs.add_argument("--all", action="store_true", help="with --stop: also stop hubs that serve a run now; its tasks then fail")
    hubs.add_argument("--json", action="store_true", help="print JSON")
    trace = add("trace", "summarise the timeline of a run with PMITOGEN_TRACE=FILE")
    trace.add_argument("--json", action="store_true", help="print JSON")
    trace.add_argument("--html", metavar="PAGE", help="write an HTML page with hosts, tasks, stages and advice")
    trace.add_argument("files", metavar="FILE", nargs="+", help="a timeline in the trace event format")
    version = add("version", "print the versions of pmitogen and its dependencies")
    version.add_argument("--json", action="store_true", help="print JSON")
    completion = add("completion", "print a shell's completion of this command line")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads it")
    add("manual", "print the manual page, in the format of man")
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "pmitogen explain ssh [--json] [-F FILE] [--] [SSH OPTIONS] HOST\n"
        "       pmitogen explain sudo|su|doas [--json] [--] FLAGS"
    )
    parser.add_argument("program", choices=("ssh", "sudo", "su", "doas"), help="the program that the options are for")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-F", dest="config", metavar="FILE", help="ssh: read this configuration file instead of the usual ones")
    parser.add_argument("arguments", nargs="*", metavar="ARG", help="the options, and for ssh the host")
