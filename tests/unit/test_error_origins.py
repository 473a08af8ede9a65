"""The exit code of a command follows from the error's type and origin, not from its text."""

from __future__ import annotations

import pytest

from pmitogen.cli.errors import CommandLineError, exit_code
from pmitogen.errors import Error, UsageError
from pmitogen.flags.become import plan
from pmitogen.flags.ssh import resolve
from pmitogen.protocol.error_kinds import OptionsError, error_fields, exception_from


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Error("command line: no such thing"), 1),
        (UsageError("command line: written by somebody else"), 1),
        (UsageError("Port: invalid", "/etc/ssh/ssh_config line 3"), 1),
        (UsageError("Port: invalid", "command line"), 2),
        (CommandLineError("no host"), 2),
    ],
)
def test_the_exit_code_of_an_error(error: Error, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize("argv", [["-o", "Port=x", "h"], ["-p", "x", "h"], ["-L", "x", "h"], []])
def test_an_error_of_ssh_options_has_its_origin(argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve.resolve(argv)
    assert caught.value.origin == "command line"
    assert caught.value.message == f"command line: {caught.value.problem}"


@pytest.mark.parametrize("flags", [["--nonsense"], ["-Z"], ["-u"], "'open", "$(x)"])
def test_an_error_of_become_flags_has_its_origin(flags: list[str] | str) -> None:
    with pytest.raises(UsageError) as caught:
        plan.explain_become("sudo", flags)
    assert caught.value.origin == "command line"


def test_an_error_of_an_ansible_option_names_that_option() -> None:
    with pytest.raises(UsageError) as caught:
        plan.plan("sudo", flags="--nonsense", timeout=1)
    assert caught.value.origin == "become_flags"
    assert caught.value.message == "become_flags: sudo: --nonsense: unknown option"


@pytest.mark.parametrize("error", [UsageError("x", "ssh_args"), OptionsError("x: y", "file line 3"), UsageError("no origin")])
def test_an_error_keeps_its_origin_on_its_way_from_the_hub(error: UsageError) -> None:
    received = exception_from(error_fields(error))
    assert isinstance(received, UsageError) and type(received) is type(error)
    assert (received.problem, received.origin, received.message) == (error.problem, error.origin, error.message)
