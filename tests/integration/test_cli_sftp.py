"""``pmitogen sftp`` against a real sshd, beside OpenSSH's sftp: the same output, exit status and files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_cli_cp import Host
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
OURS = (sys.executable, "-m", "pmitogen", "sftp")
PREPARE = "mkdir -p d/e; echo 1 > a; echo 22 > 'b c'; echo 3 > d/x; ln -s a l; echo 4 > '[q]'; touch -h -d @1000000000 * d/*"
BATCH = """\
cd {there}
pwd
ls
ls -1
ls -l
@ls -1r d
ls -1 *
ls -1t
ls -1S
# a comment

ls -1 "[q]"
get a "local name"
get -r d
get [ab]* into
put "local name" up
put -r d d2
put local* d2
-put none
-rm none
-ls none
-get none
rename up renamed
copy renamed copied
cp copied copied2
-copy none copied3
-cp d copied3
chdir d
pwd
chdir ..
chmod 640 renamed
ls -1 renamed
ln -s renamed sym
symlink renamed sym2
ls -1 sym
rm sym*
mkdir m
cd m
lcd d
lpwd
put x
-mkdir .
cd ..
!echo from the shell
rm m/x
rmdir m
cd none
pwd
"""


@pytest.fixture
def host(sshd: Sshd, tmp_path: Path) -> Host:
    return Host(sshd, tmp_path)


def run(host: Host, *argv: str, program: tuple[str, ...] = OURS, commands: str = "") -> subprocess.CompletedProcess[str]:
    command = [*program, "-F", str(host.config), *argv]
    return subprocess.run(command, cwd=host.here, capture_output=True, text=True, timeout=60, input=commands)


@pytest.mark.needs_program("sftp")
def test_same_output_and_files_as_sftp(host: Host) -> None:
    results = []
    for program in (OURS, ("sftp",)):
        for directory in (host.there, host.here):
            subprocess.run(["rm", "-rf", *directory.iterdir()], check=True)
        subprocess.run(["sh", "-c", PREPARE], cwd=host.there, check=True)
        (host.here / "into").mkdir()
        done = run(host, "-b", "-", "t", program=program, commands=BATCH.format(there=host.there))
        left = {
            str(path.relative_to(host.here.parent)): (path.lstat().st_mode, path.read_text() if path.is_file() else "")
            for directory in (host.there, host.here)
            for path in sorted(directory.rglob("*"))
        }
        results.append((done.returncode, done.stdout.splitlines(), left))
    assert results[0][0] == 1
    assert results[0][1] == results[1][1]
    assert results[0] == results[1]


def test_sftp_fetches_a_file_or_opens_a_directory(host: Host) -> None:
    (host.there / "f").write_text("text")
    done = run(host, f"t:{host.there}/f", "got")
    assert done.returncode == 0 and (host.here / "got").read_text() == "text"
    assert done.stdout == f"Fetching {host.there}/f to got\n" and done.stderr == "Connected to t.\n"
    done = run(host, f"t:{host.there}", commands="ls\nbye\nls none\n")
    assert done.returncode == 0 and done.stdout.split() == "sftp> ls f sftp> bye".split()
    assert run(host, f"t:{host.there}/none", ".").returncode == 1
    assert run(host, "[t]", commands="pwd\n").returncode == 0, "Ansible's ssh plugin writes a host in brackets"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nonsense", "Invalid command."),
        ("get", "get: wrong number of arguments; usage: get [-afpR] remote [local]"),
        ("get -z a", "get: Invalid flag -z"),
        ('get "a', "Unterminated quoted argument"),
        ("chmod rwx a", "chmod: invalid mode 'rwx'; use octal digits such as 644"),
        ("chown root a", "chown: invalid id 'root'; use a number"),
        ("lumask 9", "lumask: invalid umask '9'; use octal digits such as 022"),
        ("lcd none", 'Couldn\'t change local directory to "none": No such file or directory'),
        ("cd a\\\0b", "the path contains a NUL character"),
        ("lcd a\\\0b", "the path contains a NUL character"),
        ("lls a\\\0b", "the path contains a NUL character"),
        (f"chown {'9' * 5000} a", "invalid id '9999"),
    ],
)
def test_wrong_commands_are_reported(host: Host, command: str, message: str) -> None:
    """An interactive session goes on; a batch ends with status 1."""
    done = run(host, "t", commands=f"{command}\npwd\n")
    assert done.returncode == 0 and message in done.stderr and "Remote working directory" in done.stdout
    done = run(host, "-b", "-", "t", commands=f"{command}\npwd\n")
    assert done.returncode == 1 and message in done.stderr and "Remote working directory" not in done.stdout
    done = run(host, "-b", "-", "t", commands=f"-{command}\npwd\n")
    assert done.returncode == 0 and "Remote working directory" in done.stdout


@pytest.mark.needs_program("sftp")
def test_a_batch_goes_on_after_a_failure_of_a_local_program(host: Host) -> None:
    """And a failed change of a mode ends it."""
    for commands in ("!exit 3\nlls nosuch\npwd\n", "chmod 644 /nosuch\npwd\n"):
        ours, theirs = (
            run(host, "-D", "/usr/lib/openssh/sftp-server", "-b", "-", program=program, commands=commands)
            for program in (OURS, ("sftp",))
        )
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
        assert ours.stderr.splitlines()[1:] == theirs.stderr.splitlines()[1:]


@pytest.mark.needs_program("sftp")
def test_sftp_starts_a_local_server(host: Host) -> None:
    (host.there / "f").write_text("text")
    server = "/usr/lib/openssh/sftp-server -u 077"
    results = []
    for program in (OURS, ("sftp",)):
        commands = f"cd {host.there}\nput f up\nls -1 up\ndf\ndf -h {host.there}\ndf -i\n"
        (host.here / "f").write_text("text")
        done = run(host, "-D", server, "-b", "-", program=program, commands=commands)
        results.append((done.returncode, re.sub(r"[0-9.]+[BKMGT]*|  +", "0", done.stdout), done.stderr))
        assert (host.there / "up").stat().st_mode & 0o777 == 0o600
        (host.there / "up").unlink()
    assert results[0] == results[1] and results[0][0] == 0
    for argv in (
        ("-D", "/nosuch/server"),
        ("-D", "false"),
        ("-D", "echo hello"),
        ("-S", "/nosuch/ssh", "h"),
        ("-S", "false", "h"),
    ):
        done = run(host, *argv)
        assert done.returncode == 255 and done.stderr.endswith("Connection closed\n") and done.stderr.count("\n") <= 2, argv


def test_sftp_runs_the_given_server_command(host: Host) -> None:
    (host.there / "f").write_text("text")
    done = run(host, "-s", "exec /usr/lib/openssh/sftp-server", f"t:{host.there}/f", "got")
    assert done.returncode == 0 and (host.here / "got").read_text() == "text"
    done = run(host, "-s", "/nosuch/server", "t")
    assert done.returncode == 255 and "/nosuch/server" in done.stderr and "Connection closed" in done.stderr


SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > {folder}/argv
exec /usr/lib/openssh/sftp-server
"""


@pytest.mark.needs_program("sftp")
@pytest.mark.parametrize("destination", ["u@h:{there}/f", "{scheme}://u@h:99/{there}/f", "{scheme}://h/{there}/f"])
def test_s_replaces_the_ssh_program(host: Host, destination: str) -> None:
    (host.there / "f").write_text("text")
    (host.here / "ssh").write_text(SSH.format(folder=host.here))
    (host.here / "ssh").chmod(0o755)
    for name, pmitogen in (("scp", (*OURS[:-1], "cp")), ("sftp", OURS)):
        seen = []
        for program in (pmitogen, (name,)):
            source = destination.format(there=host.there, scheme=name)
            argv = ["-S", str(host.here / "ssh"), "-o", "Port=5", "-i", "key", "-C", source, "got"]
            done = run(host, *argv, program=program)
            assert done.returncode == 0 and (host.here / "got").read_text() == "text", done.stderr
            (host.here / "got").unlink()
            seen.append((host.here / "argv").read_text().splitlines())
        # The order of the options that scp adds, and how it joins them, has changed between releases.
        ours, theirs = (argv[argv.index("key") + 1 :] for argv in seen)
        added = ("-o", "-C", "ForwardAgent=no", "-p", "99")  # sftp gives the port as -oPort
        assert [word for word in ours if not word.startswith(added)] == [word for word in theirs if not word.startswith(added)]


def test_transfers_are_resumed_and_owners_changed(host: Host) -> None:
    (host.there / "f").write_bytes(b"x" * 100_000)
    done = run(host, "-b", "-", "t", commands=f"cd {host.there}\nreget f\nget -fp f g\nchown 1234 f\nchgrp 4321 f\nreput g h\n")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in host.here.iterdir()} == {"f", "g"}
    found = (host.there / "f").stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert os.path.getmtime(host.here / "g") == int(found.st_mtime) and (host.there / "h").stat().st_size == 100_000


def test_wrong_usage_has_the_status_of_sftp(host: Host) -> None:
    assert run(host).returncode == 1
    assert "sftp_server_path" not in run(host, "-z", "t").stderr
    assert run(host, "-b", "none", "t").stderr == "No such file or directory (none).\n"
    done = run(host, "-P", "1", "t")
    assert done.returncode == 255 and done.stderr.endswith("Connection closed\n")
