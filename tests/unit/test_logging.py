"""Logging: levels, the contents of a line, and secrets, which no line contains."""

from __future__ import annotations

import json
import logging
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmitogen import logging as log
from pmitogen.errors import UsageError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.log_file import open_log

NAMES = ("pmitogen", "paramiko", "mitogen")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of a pmitogen module; the fixture restores the logging configuration."""
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in NAMES}
    yield logging.getLogger("pmitogen.transport.connect")
    log.setup("test", environ={})
    for name, (handlers, propagate) in before.items():
        found = logging.getLogger(name)
        found.handlers[:], found.propagate = handlers, propagate
        found.setLevel(logging.NOTSET)


def _configured(path: Path, level: str = "debug") -> None:
    assert log.setup("hub", environ={"PMITOGEN_LOG": level, "PMITOGEN_LOG_FILE": str(path)})


def test_a_line_has_time_process_host_task_and_module(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    _configured(path)
    with log.context(host="web1"), log.context(task="Install nginx"):
        logger.info("auth: %s", "accepted")
    logger.warning("alone")
    first, second = path.read_text().splitlines()
    prefix = r"\d\d:\d\d:\d\d\.\d{3} hub\[\d+\] \+\d+\.\d{3} "
    assert re.fullmatch(prefix + r'web1 "Install nginx" transport\.connect: auth: accepted', first)
    assert re.fullmatch(prefix + r"WARNING transport\.connect: alone", second)


@pytest.mark.usefixtures("logger")
def test_the_log_file_of_a_connection_is_not_repeated_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("ssh", environ={})
    settings = Settings("h", "h", "u", logfile=str(tmp_path / "log"), loglevel="DEBUG3")
    name, close = open_log(settings)
    logging.getLogger(name).debug("key exchange")
    close()
    assert "key exchange" in (tmp_path / "log").read_text()
    assert capsys.readouterr().err == ""


def test_threads_do_not_share_a_context(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    _configured(path)
    with log.context(host="web1"):
        other = threading.Thread(target=logger.info, args=("from a thread",))
        other.start()
        other.join()
    assert "web1" not in path.read_text()


def test_records_name_their_host_and_task(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    _configured(path)
    of_host = log.for_host(logger, "web1")
    with log.context(host="other"):
        of_host.info("one")
        of_host.info("two", extra={"task": "Install nginx"})
    first, second = path.read_text().splitlines()
    assert first.endswith(" web1 transport.connect: one")
    assert second.endswith(' web1 "Install nginx" transport.connect: two')


def test_text_of_a_peer_cannot_begin_a_line(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    _configured(path)
    forged = "x\n10:04:11.123 hub[1] +0.1 hub: all is well\r\x1b[2J\u202e"
    logger.info("server: %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed")
    lines = path.read_text().splitlines()
    own = re.compile(r"\d\d:\d\d:\d\d\.\d{3} hub\[\d+\] ")
    assert len([line for line in lines if own.match(line)]) == 2
    assert all(own.match(line) or line.startswith("    ") for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("environ", "output"),
    [
        ({}, []),
        ({"PMITOGEN_LOG": "error"}, []),
        ({"PMITOGEN_LOG": "warning"}, ["warn", "foreign-warn"]),
        ({"PMITOGEN_LOG": "INFO"}, ["info", "warn", "foreign-warn"]),
        ({"PMITOGEN_LOG": "debug"}, ["debug", "info", "warn", "foreign-warn"]),
        ({"PMITOGEN_LOG": "trace"}, ["debug", "info", "warn", "foreign-debug", "foreign-warn"]),
    ],
)
def test_variables_select_the_level(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], environ: dict[str, str], output: list[str]
) -> None:
    assert log.setup("cli", environ=environ) is bool(environ)
    logger.debug("debug")
    logger.info("info")
    logger.warning("warn")
    logging.getLogger("paramiko.transport").debug("foreign-debug")
    logging.getLogger("mitogen").warning("foreign-warn")
    assert [line.rsplit(" ", 1)[1] for line in capsys.readouterr().err.splitlines()] == output


def test_a_log_file_has_level_info_by_default_and_mode_0600(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("of another process\n")
    path.unlink()
    assert log.setup("hub", environ={"PMITOGEN_LOG_FILE": str(path)})
    logger.debug("no")
    logger.info("yes")
    assert path.read_text().endswith(": yes\n") and path.read_text().count("\n") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_go_to_the_stderr_of_another_process(logger: logging.Logger, tmp_path: Path) -> None:
    """A hub logs so to the terminal of its run."""
    with (tmp_path / "err").open("w") as file:
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=file)
        file.write("before\n")
    assert log.setup(environ={"PMITOGEN_LOG": "info"}, stderr_from_pid=other.pid)
    logger.info("hello")
    other.communicate(b"\n", timeout=30)
    assert (tmp_path / "err").read_text().startswith("before\n") and (tmp_path / "err").read_text().endswith(": hello\n")


def test_the_stderr_of_an_ended_process_is_replaced_by_our_own(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    assert log.setup(environ={"PMITOGEN_LOG": "info"}, stderr_from_pid=gone.pid)
    logger.info("hello")
    assert capsys.readouterr().err.endswith(": hello\n")


def test_lines_are_appended(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        _configured(path)
        logger.info("line")
    assert path.read_text().count(": line\n") == 2


@pytest.mark.parametrize("environ", [{"PMITOGEN_LOG": "loud"}, {"PMITOGEN_LOG_FILE": "/nonexistent/folder/log"}])
def test_invalid_variables_are_errors(logger: logging.Logger, environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(environ))}: "):
        log.setup("cli", environ=environ)


def test_no_line_contains_a_secret(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    _configured(path)
    secrets = ["hunter2-plain", 'quo"te\\d-secret', "ünïcode-secret", "hunter2-plain-and-longer"]
    key = "-----BEGIN KEY-----\nbGluZS1vbmU=\nbGluZS10d28=\n-----END KEY-----\n"
    for secret in [*secrets, key]:
        log.register_secret(secret)
    log.register_secret(b"bytes-secret")
    for secret in [*secrets, "bytes-secret"]:
        logger.info("text %s repr %r json %s", secret, secret, json.dumps({"p": secret}))
        logger.info("bytes %r", secret.encode())
    logger.info("key %s", key)
    logger.info("half of it: bGluZS10d28=")
    with log.context(host="hunter2-plain"):
        try:
            raise ValueError("hunter2-plain")
        except ValueError:
            logger.exception("went wrong")
    text = path.read_text()
    for word in ("hunter2", "longer", "d-secret", "bytes-secret", "ünï", "bGluZS"):
        assert word not in text.replace(repr(secrets[2].encode()), ""), word
    assert log.REDACTED in text and "Traceback" in text


def test_a_very_short_secret_is_not_removed_from_lines(logger: logging.Logger) -> None:
    log.register_secret("a")
    log.register_secret("")
    log.register_secret(None)
    assert log.redact("a banana") == "a banana"


def test_importing_loads_no_large_module() -> None:
    heavy = ("paramiko", "mitogen", "ansible", "asyncio", "socket")
    code = f"import sys, pmitogen.logging; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
