"""Wrong command lines: each command has the message and the exit status of the program that it replaces.

Programs that start ssh, scp and the others depend on both. The usage text is not compared, because it lists pmitogen's options.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pmitogen.cli import dispatch
from pmitogen.cli.shims import PROGRAMS

pytestmark = pytest.mark.needs_program("ssh")

# Command lines with the same message and status as the installed program.
SAME = r"""
ssh
ssh -p
ssh -o
ssh -Q
ssh -O
ssh -N
ssh -G
ssh --
ssh -p abc h
ssh -p 0 h
ssh -p 70000 h
ssh -p 22x h
ssh -o Foo=bar h
ssh -o Port h
ssh -o Port= h
ssh -o -o h
ssh -F file h
scp -o Port file h:b
ssh -F nosuch h
ssh -F badkey h
ssh -L x h
ssh -R x:y:z:w:v h
ssh -D 99999999 h
ssh -W foo h
ssh -Q nosuch
ssh -O check h
ssh -O nosuch -S /tmp/x h
ssh -S /nosuch/s -O check h
ssh -c nosuch h
ssh -m nosuch h
ssh -e abc h
ssh -w x h
ssh -J a:b:c:d:e h
ssh -J host:99999 h
ssh -s h
ssh 'a;b' true
ssh 'x;y@h' true
ssh -o 'User=x;y' h true
ssh -F none -o BatchMode=yes $'h\xff'
scp 'a;b:x' file
ssh -f h
ssh -E /nosuch/log h
scp
scp a
scp -Z a b
scp -P
scp -o
scp -P x a h:b
scp -l x a h:b
scp -l 0 a h:b
scp -X nosuch=1 a h:b
scp -F nosuch file h:b
scp -o Foo=1 file h:b
scp -c nosuch file h:b
scp -c '' file h:b
scp -X buffer=0 a h:b
scp -X buffer=1x a h:b
scp -X nrequests=0 a h:b
scp -X nrequests=x a h:b
scp scp://h:x/a b
scp nosuch1 nosuch2 file
sftp
sftp -Z
sftp -P
sftp -b
sftp -P x h
sftp -B 0 h
sftp -R 0 h
sftp -l x h
sftp -X nosuch=1 h
sftp a b c
ssh-keygen -Z
ssh-keygen -t
ssh-keygen -F
ssh-keygen extra arguments
ssh-keygen -t nosuch -N '' -f new
ssh-keygen -t rsa -b 10 -N '' -f new
ssh-keygen -t rsa -b x -N '' -f new
ssh-keygen -t rsa -b 99999 -N '' -f new
ssh-keygen -t ecdsa -b 100 -N '' -f new
ssh-keygen -t ed25519 -N '' -f /nosuch/key
ssh-keygen -l -f nosuch
ssh-keygen -l -f garbage
ssh-keygen -l -f empty
ssh-keygen -l -E nosuch -f key
ssh-keygen -y -f nosuch
ssh-keygen -y -P wrong -f key
ssh-keygen -p -P wrong -N '' -f key
ssh-keygen -p -f nosuch -N '' -P ''
ssh-keygen -c -C x -P wrong -f key
ssh-keygen -c -C x -P '' -f nosuch
ssh-keygen -L -f key.pub
ssh-keygen -L -f garbage
ssh-keygen -L -f nosuch
ssh-keygen -t '' -N '' -f new
ssh-keygen -l -E '' -f key
ssh-keygen -l -f -
ssh-keygen -F h -f nosuch
ssh-keygen -R h -f nosuch
ssh-keygen -H -f nosuch
ssh-keygen -Y nosuch
ssh-keyscan
ssh-keyscan -Z
ssh-keyscan -p
ssh-keyscan -t
ssh-keyscan -p x h
ssh-keyscan -p 99999 h
ssh-keyscan -t nosuch h
ssh-keyscan -T x h
ssh-keyscan -T 0 h
ssh-keyscan -f nosuch
ssh-agent -Z
ssh-agent -t
ssh-agent -t x
ssh-agent -a /nosuch/s
ssh-agent -k
ssh-agent -c -s
ssh-agent -k true
ssh-agent -d -D
ssh-agent -s true
ssh-agent -E nosuch true
ssh-add
ssh-add -l
""".strip().splitlines()

# Command lines with the same status; the message has more detail, or is that of ssh for a configuration file.
SAME_STATUS = r"""
ssh -o Port=x h
ssh -o StrictHostKeyChecking=maybe h
ssh -o ConnectTimeout=x h
ssh -o KexAlgorithms=nosuch h
ssh -o HostKeyAlgorithms=nosuch h
ssh -o ConnectionAttempts=0 h
ssh -F badport h
ssh -G -o LogLevel=x h
ssh -p 1 127.0.0.1 true
ssh @host
ssh ssh://h:x/
scp nosuch dir
scp -P 1 file 127.0.0.1:b
sftp -b nosuch h
ssh-keygen -y -f garbage
ssh-keygen -a 0 -t ed25519 -N '' -f new
ssh-keyscan -p 1 127.0.0.1
""".strip().splitlines()


@pytest.fixture
def files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create the files of the command lines in the working directory, and return it."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", "key"], check=True)
    texts = {"garbage": "garbage\n", "empty": "", "file": "text\n", "badkey": "NoSuchKey yes\n", "badport": "Port abc\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "dir").mkdir()
    return tmp_path


def outcome(status: int, text: str) -> tuple[int, str]:
    """Return the status and the message without the usage."""
    return status, re.split(r"^\s*usage: ", text.replace("\r", ""), flags=re.MULTILINE)[0].rstrip()


def theirs(line: str) -> tuple[int, str]:
    done = subprocess.run(
        shlex.split(line), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, start_new_session=True
    )
    return outcome(done.returncode, done.stdout + done.stderr)


def ours(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    program, *args = shlex.split(line)
    status = dispatch.main([PROGRAMS[program], *args])
    captured = capsys.readouterr()
    return outcome(status, captured.out + captured.err)


def test_message_and_status_are_those_of_the_installed_program(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    different = [(line, got, wanted) for line in SAME if (got := ours(line, capsys)) != (wanted := theirs(line))]
    assert not different
    assert not (files / "new").exists()


def test_the_status_is_that_of_the_installed_program(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in SAME_STATUS:
        status, text = ours(line, capsys)
        assert (line, status) == (line, theirs(line)[0]), text
        assert "Traceback" not in text and text.strip(), line
    assert sorted(os.listdir(files)) == sorted(["key", "key.pub", "garbage", "empty", "file", "badkey", "badport", "dir"])


def test_a_flag_of_newer_versions_that_is_not_carried_out_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """``-Z`` lists keys since OpenSSH 10.5. Not compared: the installed program may have it."""
    assert dispatch.main(["ssh", "-Z", "h"]) == 255
    text = capsys.readouterr().err
    assert text.startswith("unknown option -- Z\nusage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] ")


@pytest.mark.needs_root
def test_a_log_file_of_another_user_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (secret := tmp_path.parent / f"{tmp_path.name}-secret").write_text("old")
    (link := tmp_path / "log").symlink_to(secret)
    os.lchown(link, 65534, 65534)
    args = [sys.executable, "-m", "pmitogen", "ssh", "-F", "none", "-E", str(link), "-p", "1", "127.0.0.1", "true"]
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr == f"Couldn't open logfile {link}: is a symbolic link of another user\n"
    assert secret.read_text() == "old"
