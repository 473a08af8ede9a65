"""Build the ssh command line that Ansible's ``ssh`` plugin would run from the connection plugin's options.

Ansible has a dozen options for ssh, and its ``ssh`` plugin concatenates them in a fixed order. For most keywords ssh takes the
first value that it reads, so that order is the precedence: ``-o User=`` in ssh_args overrides ansible_user, and ansible_port
overrides ``-p`` in ssh_common_args. The same arguments in the same order therefore mean the same here.

Left out:

- the default ssh_args, exactly as Ansible has them. They are meant for a program that logs in for each task, and are not
  the user's choice of compression or of connections that outlive the run.
- ``ControlPath``, the password helper, the terminal (``-tt``) and the program itself: they have no meaning here.

Differences from Ansible's plugin:

- ``IdentityFile=none`` replaces the file of a *private_key*; the key itself is passed in Credentials.
- *pkcs11_provider* is passed even without a PIN: some tokens need none, or take it at the reader.
- One password means one attempt.
- With a second factor (*otp*) but no password, keyboard-interactive authentication stays allowed.

Two options exist in the library only: with *interactive*, ssh's defaults for passwords stay; *ssh_extra_args_from* is the name
of ssh_extra_args in error messages.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator, Mapping, Sequence

from pmitogen.errors import UsageError
from pmitogen.util.caller import CallerEnvironment

DEFAULT_SSH_ARGS = "-C -o ControlMaster=auto -o ControlPersist=60s"

_WITHOUT_PASSWORD = ("gssapi-with-mic", "gssapi-keyex", "hostbased", "publickey")

_Options = Mapping[str, object]
_Group = tuple[str, Sequence[str]]  # the option and its arguments


def build_ssh_argv(options: _Options, caller: CallerEnvironment | None = None) -> tuple[list[str], list[str]]:
    """Return the arguments of ``ssh``, the host last, and for each one the option that it comes from.

    *options*: the plugin's resolved options by name; a missing one is unset.
    *caller*: the process whose home directory ``~`` in *private_key_file* means; default: this process.
    The arguments hold no secret. Raises UsageError if a quote in an option is not closed.
    """
    argv: list[str] = []
    origins: list[str] = []
    for origin, arguments in _groups(options, caller or CallerEnvironment.current()):
        argv.extend(arguments)
        origins.extend([origin] * len(arguments))
    return argv, origins


def _groups(options: _Options, caller: CallerEnvironment) -> Iterator[_Group]:
    """Return the groups of arguments in the order of Ansible's plugin."""
    yield "pkcs11_provider", _pkcs11(options)
    yield "verbosity", _verbosity(options)
    yield "ssh_args", _chosen_ssh_args(options)
    if options.get("host_key_checking") is False:
        yield "host_key_checking", _set("StrictHostKeyChecking=no")
    if options.get("port") is not None:
        yield "port", _set(f"Port={options['port']}")
    yield from _key(options, caller)
    if not options.get("password") and not options.get("interactive"):
        yield "password", _disable_password(options)
    if options.get("remote_user"):
        yield "remote_user", _set(f'User="{options["remote_user"]}"')
    if options.get("timeout") is not None:
        yield "timeout", _set(f"ConnectTimeout={options['timeout']}")
    yield "ssh_common_args", _split(options, "ssh_common_args")
    yield str(options.get("ssh_extra_args_from") or "ssh_extra_args"), _split(options, "ssh_extra_args")
    if not options.get("interactive"):
        yield "password", _set("NumberOfPasswordPrompts=1")
    if options.get("host"):
        yield "host", [str(options["host"])]


def _set(*settings: str) -> list[str]:
    """Return the options with ``-o`` before each."""
    return [arg for setting in settings for arg in ("-o", setting)]


def _split(options: _Options, name: str) -> list[str]:
    """Split an option that holds arguments; drop empty ones."""
    text = options.get(name)
    if not text:
        return []
    try:
        return list(_words(str(text)))
    except ValueError as error:
        raise UsageError(f"{name}: {str(error).lower()}: close the quote, or escape it with a backslash") from None


@functools.lru_cache(64)
def _words(text: str) -> tuple[str, ...]:
    """Split *text* as a shell does; all hosts of a run have the same. Raises ValueError."""
    return tuple(arg.strip() for arg in shlex.split(text) if arg.strip())


def _chosen_ssh_args(options: _Options) -> list[str]:
    arguments = _split(options, "ssh_args")
    return [] if arguments == DEFAULT_SSH_ARGS.split() else arguments


def _verbosity(options: _Options) -> list[str]:
    level = int(str(options.get("verbosity") or 0))
    return ["-" + "v" * level] if level > 0 else []


def _pkcs11(options: _Options) -> list[str]:
    provider = options.get("pkcs11_provider")
    if not provider:
        return []
    pin = options.get("password")
    others = ("KbdInteractiveAuthentication=no", "PreferredAuthentications=publickey", "PasswordAuthentication=no") if pin else ()
    return _set(*others, f"PKCS11Provider={provider}")


def _key(options: _Options, caller: CallerEnvironment) -> Iterator[_Group]:
    """Return the key options. A key passed as text replaces all others except those of ssh_config, as a file does."""
    if options.get("private_key"):
        yield "private_key", _set("IdentitiesOnly=yes", "IdentityFile=none")
    elif options.get("private_key_file"):
        path = caller.expand_user(str(options["private_key_file"]))
        yield "private_key_file", _set(f'IdentityFile="{path}"')


def _disable_password(options: _Options) -> list[str]:
    if options.get("otp"):
        methods = (*_WITHOUT_PASSWORD, "keyboard-interactive")
        return _set("PreferredAuthentications=" + ",".join(methods), "PasswordAuthentication=no")
    preferred = "PreferredAuthentications=" + ",".join(_WITHOUT_PASSWORD)
    return _set("KbdInteractiveAuthentication=no", preferred, "PasswordAuthentication=no")
