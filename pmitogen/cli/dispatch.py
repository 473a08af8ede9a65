"""What the command line looks like, and how its errors do.

An error is one line on stderr, ``pmitogen COMMAND: what it is about: what went wrong, and what to do``, and exit code 1, or 2 if
words on the command line are wrong. A traceback is always a defect. Ctrl-C is exit code 130, a closed pipe is none.
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
from pmitogen.cli.errors import Parser, exit_code
from pmitogen.errors import Error
from pmitogen.util.peer_text import one_line

# What a command's function is: words or parsed options in, exit code out.
_Run = Callable[[Any], int]

# Each command is the function ``run`` of a module of this package.
_MODULES = {
    "setup": "setup",
    "plugin-path": "setup",
    "demo": "demo.play",
    "explain": "explain",
    "ssh": "ssh.main",
    "ping": "ping",
    "keyscan": "keyscan",
    "trust": "trust",
    "hubs": "hubs",
    "trace": "trace",
    "version": "version",
}
# These read their words themselves: everything after them is theirs.
_RAW = {"ssh", "demo", "ping", "keyscan", "trust"}

_EPILOG = "pmitogen COMMAND --help tells more. In Ansible: ansible_connection: pmitogen, after pmitogen setup."


def main(argv: Sequence[str] | None = None) -> int:
    """See :func:`pmitogen.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a server's text may hold what the terminal's encoding cannot show
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    command = "pmitogen"
    try:
        if words and words[0] in _RAW:
            command += " " + words[0]
            return _load(words[0], "run")(words[1:])
        options = _parse(words)
        command += " " + options.command
        code = _load(options.command, options.function)(options)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # argparse: 0 after --help, 2 after wrong words
        return end.code if isinstance(end.code, int) else 1
    except Error as error:
        return _fail(f"{command}: {error.message}", exit_code(error))
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{command}: {where}{(error.strerror or str(error)).lower()}")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """What follows ``--`` is nobody's option: argparse would drop further ones, in its own way in each Python."""
    if "--" not in words:
        end = _end_of_ours(words)
        words = [*words[:end], "--", *words[end:]]
    end = words.index("--")
    options = _parser().parse_args(words[:end])
    rest = list(words[end + 1 :])
    if rest and options.command != "explain":
        _parser().error(f"unexpected words: {' '.join(rest)}")
    if options.command == "explain":
        options.words += rest
    return options


def _end_of_ours(words: Sequence[str]) -> int:
    """Where ``--`` is left out: how many of *words* are ours. For explain, all up to the first that only the program can know."""
    if words[:1] != ["explain"]:
        return len(words)
    at, program = 1, False
    while at < len(words):
        word = words[at]
        if word == "-F":
            at += 1
        elif not word.startswith("-") and not program:
            program = True
        elif word not in ("--json", "--help", "-h") and not word.startswith("-F"):
            break
        at += 1
    return min(at, len(words))


def _load(command: str, function: str) -> _Run:
    run: _Run = getattr(importlib.import_module(f"pmitogen.cli.{_MODULES[command]}"), function)
    return run


def _fail(message: str, code: int = 1) -> int:
    sys.stdout.flush()
    sys.stderr.write(one_line(message) + "\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pmitogen", description="Ansible, and your own tools, over SSH without an ssh program.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"pmitogen {pmitogen.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, function: str = "run", **words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=words.get("description", help[0].upper() + help[1:] + "."))
        made.set_defaults(function=function)
        return made

    setup = add("setup", "make 'ansible_connection: pmitogen' work for this user")
    setup.add_argument("--remove", action="store_true", help="undo it")
    setup.add_argument(
        "--shims",
        metavar="DIR",
        help="instead: make programs in DIR under the names of OpenSSH's (ssh ...), for rsync, git and others that start them",
    )
    add("plugin-path", "print the folder to put in ansible.cfg's connection_plugins", function="plugin_path")
    add("demo", "run a small playbook against a throw-away SSH server")
    _add_explain(add("explain", "show what becomes of the options of ssh, sudo, su or doas"))
    add("ssh", "run a command or a shell on a host, with ssh's own command line: pmitogen ssh [SSH OPTIONS] HOST [COMMAND]")
    add("ping", "log in to a host, start Python there, and time it: pmitogen ping [SSH OPTIONS] HOST")
    add("keyscan", "print the host keys of servers, in the form of known_hosts: pmitogen keyscan [OPTIONS] HOST...")
    add("trust", "show the host keys of a server, and record them if you say so: pmitogen trust [SSH OPTIONS] HOST")
    hubs = add("hubs", "list the running hubs, which hold the connections of a run")
    hubs.add_argument(
        "--stop",
        nargs="?",
        const="kept",
        metavar="PID",
        help="end the hubs that are kept for a later run, or the one with this pid",
    )
    hubs.add_argument("--all", action="store_true", help="with --stop: end those too that serve a run now, whose tasks then fail")
    hubs.add_argument("--json", action="store_true", help="print JSON")
    trace = add("trace", "sum up the timeline of a run that had PMITOGEN_TRACE=FILE")
    trace.add_argument("files", metavar="FILE", nargs="+", help="the timeline, in the trace event format of browsers")
    add("version", "print the versions of pmitogen and of what it stands on")
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "pmitogen explain ssh [--json] [-F FILE] [--] [SSH OPTIONS] HOST\n"
        "       pmitogen explain sudo|su|doas [--json] [--] FLAGS"
    )
    parser.add_argument("program", choices=("ssh", "sudo", "su", "doas"), help="whose options they are")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-F", dest="config", metavar="FILE", help="ssh: read this configuration file instead of the usual ones")
    parser.add_argument("words", nargs="*", metavar="WORD", help="the options, and for ssh the host")
