"""Errors keep all their attributes when they are pickled."""

from __future__ import annotations

import pickle

import pytest

import pmitogen
from pmitogen.protocol.error_kinds import error_fields, exception_from
from pmitogen.util.os_errors import os_error

ERRORS = [
    pmitogen.UsageError("wrong", "line 3"),
    pmitogen.ConnectError("closed", "tcp"),
    pmitogen.AuthenticationError("refused", ("publickey",)),
    pmitogen.ConnectionLost("gone"),
    pmitogen.BecomeError("no", "tty"),
    pmitogen.RemoteError("failed", "text", pmitogen.Completed(3, b"out", b"err"), "EIO"),
    pmitogen.HubError("ended"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_are_equal_after_pickling(error: pmitogen.Error) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("ENOENT", FileNotFoundError), ("EACCES", PermissionError), ("EPERM", PermissionError), ("EEXIST", FileExistsError)],
)
def test_errnos_of_a_host_are_mapped_by_name(code: str, kind: type[OSError]) -> None:
    error = os_error("web1: get: /x: no", code, path="/x")
    assert isinstance(error, kind) and isinstance(error, pmitogen.RemoteError)
    assert (str(error), error.filename, error.code) == ("web1: get: /x: no", "/x", code)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and (str(again), again.errno, again.filename) == (str(error), error.errno, "/x")


@pytest.mark.parametrize("code", ["ENOTHING", "errorcode", "__doc__", ""])
def test_an_unknown_name_of_an_error_counts_as_eio(code: str) -> None:
    assert os_error("x", code).errno == 5


def test_the_name_of_an_errno_is_sent_in_frames() -> None:
    assert exception_from(dict(error_fields(pmitogen.RemoteError("x", code="ENOENT")))).code == "ENOENT"  # type: ignore[attr-defined]
