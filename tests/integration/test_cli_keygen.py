"""``pmitogen keygen`` beside OpenSSH's ssh-keygen: each reads the other's files, and both print the same."""

from __future__ import annotations

import os
import pty
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_program("ssh-keygen")
OURS, THEIRS = (sys.executable, "-m", "pmitogen", "keygen"), ("ssh-keygen",)
KEYS = [
    ("-t ed25519", "correct horse"),
    *(
        pytest.param(kind, passphrase, marks=pytest.mark.slow)
        for kind in ("-t ed25519", "-t ecdsa", "-t ecdsa -b 384", "-t ecdsa -b 521", "-t rsa -b 2048")
        for passphrase in ("", "correct horse")
        if (kind, passphrase) != ("-t ed25519", "correct horse")
    ),
]


def run(program: tuple[str, ...], *argv: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the two programs without a terminal and with a home of its own."""
    environment = {**os.environ, "HOME": str(cwd), "PYTHONPATH": os.getcwd()}
    environment.pop("SSH_ASKPASS", None)
    command = [*program, *argv]
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, env=environment, start_new_session=True
    )


def same(*argv: str, cwd: Path, stdin: str = "") -> str:
    """Run both programs on the same files; return their common output."""
    ours, theirs = (run(program, *argv, cwd=cwd, stdin=stdin) for program in (OURS, THEIRS))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr + theirs.stderr
    return ours.stdout


@pytest.mark.parametrize(("kind", "passphrase"), KEYS)
def test_each_reads_the_others_keys(kind: str, passphrase: str, tmp_path: Path) -> None:
    for name, program in (("ours", OURS), ("theirs", THEIRS)):
        made = run(program, *kind.split(), "-f", name, "-N", passphrase, "-C", "a comment", cwd=tmp_path)
        assert made.returncode == 0 and f"saved in {name}\n" in made.stdout, made.stderr
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / f"{name}.pub").stat().st_mode) == 0o644
        line = same("-y", "-P", passphrase, "-f", name, cwd=tmp_path)
        assert line.strip() == (tmp_path / f"{name}.pub").read_text().strip() and line.endswith(" a comment\n")
        for flags in ("-lf", "-E md5 -lvf", "-E sha512 -lf"):
            assert "a comment" in same(*flags.split(), name, cwd=tmp_path)
        wrong = run(OURS, "-y", "-P", "wrong", "-f", name, cwd=tmp_path)
        assert wrong.returncode == (255 if passphrase else 0)
        for changer, old, new in ((OURS, passphrase, "another"), (THEIRS, "another", "third"), (OURS, "third", "")):
            changed = run(changer, "-p", "-P", old, "-N", new, "-f", name, cwd=tmp_path)
            assert changed.returncode == 0 and "Key has comment 'a comment'" in changed.stdout, changed.stderr
            assert same("-y", "-P", new, "-f", name, cwd=tmp_path) == line
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_the_comment_changes_and_the_passphrase_stays(tmp_path: Path) -> None:
    run(THEIRS, "-q", "-t", "ed25519", "-f", "key", "-N", "secret phrase", "-C", "old", cwd=tmp_path)
    done = run(OURS, "-c", "-C", "new", "-P", "secret phrase", "-f", "key", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert same("-y", "-P", "secret phrase", "-f", "key", cwd=tmp_path).endswith(" new\n")
    assert (tmp_path / "key.pub").read_text().endswith(" new\n")


def test_an_existing_key_is_overwritten_only_after_confirmation(tmp_path: Path) -> None:
    make = ("-t", "ed25519", "-f", "key", "-N", "")
    assert run(OURS, *make, cwd=tmp_path).returncode == 0
    before = (tmp_path / "key").read_bytes()
    assert run(OURS, *make, cwd=tmp_path).returncode == run(THEIRS, *make, cwd=tmp_path).returncode == 1
    assert run(OURS, *make, cwd=tmp_path, stdin="n\n").returncode == 1 and (tmp_path / "key").read_bytes() == before
    assert run(OURS, *make, cwd=tmp_path, stdin="y\n").returncode == 0 and (tmp_path / "key").read_bytes() != before


def test_keygen_prompts_for_the_passphrase_on_the_terminal(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = os.getcwd()
        os.execv(sys.executable, [*OURS, "-q", "-t", "ed25519", "-f", str(tmp_path / "key")])
    shown = b""
    for _ in range(2):
        while not shown.endswith(b": "):
            shown += os.read(terminal, 1024)
        os.write(terminal, b"typed phrase\n")
        shown += b"|"
    try:
        while piece := os.read(terminal, 1024):
            shown += piece
    except OSError:
        pass
    assert os.waitpid(pid, 0)[1] == 0 and b"typed phrase" not in shown, shown
    os.close(terminal)
    assert run(THEIRS, "-y", "-P", "typed phrase", "-f", "key", cwd=tmp_path).returncode == 0


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    """A file with an entry of every kind."""
    for name in ("one", "two"):
        run(THEIRS, "-q", "-t", "ed25519", "-f", name, "-N", "", "-C", "", cwd=tmp_path)
    one, two = ((tmp_path / f"{name}.pub").read_text().strip() for name in ("one", "two"))
    path = tmp_path / "hosts"
    path.write_text(
        f"# comment\nhost,Other {one} its comment\n*.example.com {two}\n[host]:2222 {one}\n\n@cert-authority *.x {one} ca\n"
        f"@revoked host {two}\n  10.0.0.1\t{two}\nhost {two}\n"
    )
    path.chmod(0o640)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HOST", "other", "a.example.com", "b.x", "10.0.0.1", "absent"])
def test_f_finds_no_entry_of_other_hosts(known_hosts: Path, name: str) -> None:
    test_f_finds_each_entry_of_a_host(known_hosts, name)


@pytest.mark.parametrize("name", ["host", "[host]:2222"])
def test_f_finds_each_entry_of_a_host(known_hosts: Path, name: str) -> None:
    where = known_hosts.parent
    for flags in ((), ("-lv", "-E", "md5")):
        same(*flags, "-F", name, "-f", "hosts", cwd=where)
    assert run(THEIRS, "-H", "-f", "hosts", cwd=where).returncode == 0
    same("-F", name, "-f", "hosts", cwd=where)


@pytest.mark.parametrize("flags", [("-R", "host"), ("-R", "absent"), ("-H",)])
def test_known_hosts_is_edited_as_by_ssh_keygen(known_hosts: Path, flags: tuple[str, ...]) -> None:
    results = []
    original = known_hosts.read_text()
    for program in (OURS, THEIRS):
        known_hosts.write_text(original)
        old = known_hosts.with_name("hosts.old")
        old.unlink(missing_ok=True)
        done = run(program, *flags, "-f", "hosts", cwd=known_hosts.parent)
        text = known_hosts.read_text()
        if flags == ("-H",):
            text = "\n".join(line if not line.startswith("|1|") else line.split(None, 1)[1] for line in text.splitlines())
            assert run(THEIRS, "-F", "other", "-f", "hosts", cwd=known_hosts.parent).stdout.count("|1|") == 1
        saved = old.read_text() if old.exists() else None
        assert saved in (None, original)
        results.append((done.returncode, done.stdout, done.stderr.replace("\r", ""), text, saved is None))
        assert stat.S_IMODE(known_hosts.stat().st_mode) == 0o640 or program == THEIRS
    assert results[0] == results[1]


def test_a_damaged_file_is_not_replaced(known_hosts: Path) -> None:
    known_hosts.write_text(known_hosts.read_text() + "|bad\ngarbage line\n@unknown host x y\n")
    before = known_hosts.read_bytes()
    for flags in (("-R", "host"), ("-H",)):
        ours, theirs = (run(program, *flags, "-f", "hosts", cwd=known_hosts.parent) for program in (OURS, THEIRS))
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) and ours.returncode == 1
        assert ours.stderr.replace("\r", "") == theirs.stderr.replace("\r", "")
        assert known_hosts.read_bytes() == before


def test_certificates_are_shown(tmp_path: Path) -> None:
    run(THEIRS, "-q", "-t", "rsa", "-b", "2048", "-f", "ca", "-N", "", cwd=tmp_path)
    user = (
        "-n a,b -V 20200101:20300101 -O force-command=ls -O source-address=10.0.0.0/8 -O clear -O permit-pty -O extension:x@y=z"
    )
    for name, kind, options in (("user", "ecdsa", user), ("host", "ed25519", "-h -V always:forever -z 7")):
        run(OURS, "-q", "-t", kind, "-f", name, "-N", "", "-C", "c", cwd=tmp_path)
        signed = run(THEIRS, "-s", "ca", "-I", "the id", *options.split(), f"{name}.pub", cwd=tmp_path)
        assert signed.returncode == 0, signed.stderr
        assert "Signing CA: RSA SHA256:" in same("-L", "-f", f"{name}-cert.pub", cwd=tmp_path)
        assert "-CERT)" in same("-l", "-f", f"{name}-cert.pub", cwd=tmp_path)
    lines = "".join((tmp_path / name).read_text() for name in ("user.pub", "user-cert.pub", "host-cert.pub"))
    assert "(stdin):2:" in same("-L", "-f", "-", cwd=tmp_path, stdin=lines)
    assert same("-l", "-f", "-", cwd=tmp_path, stdin="# x\n" + lines).count("\n") == 3


@pytest.mark.parametrize("passphrase", ["", "12345"])
@pytest.mark.parametrize("form", ["rfc4716", "PEM"])
def test_a_fingerprint_without_the_public_file(passphrase: str, form: str, tmp_path: Path) -> None:
    """The comment of a key that is not encrypted is its own."""
    made = run(OURS, "-q", "-t", "ecdsa", "-m", form, "-N", passphrase, "-C", "a comment", "-f", "key", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "key.pub").unlink()
    ours, theirs = (run(program, "-l", "-f", "key", cwd=tmp_path) for program in (OURS, THEIRS))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    if form == "rfc4716":
        assert ours.returncode == 0 and ("a comment" in ours.stdout) == (not passphrase)


WRONG = ["--nonsense", "a b", "-t bad -f x", "-y -f none", "-L -f key.pub", "-f none/x -N 12345"]
WRONG_TOO = [
    "-F", "-t ecdsa -b 999 -f x", "-t rsa -b 100 -f x", "-t rsa -b x -f x", "-a 0 -f x", "-l -f none", "-F h -f none", "-l",
    "-H -f none", "-R h", "-E foo -l -f key", "-l -f hosts", "-y -f key.pub", "-p -f none -N x", "-y", "-L",
]  # fmt: skip


@pytest.mark.parametrize("line", [*WRONG, *(pytest.param(line, marks=pytest.mark.slow) for line in WRONG_TOO)])
def test_wrong_use_ends_as_with_openssh(line: str, tmp_path: Path) -> None:
    run(THEIRS, "-q", "-t", "ed25519", "-f", "key", "-N", "", cwd=tmp_path)
    (tmp_path / "hosts").write_text("nothing in here\n")
    ours, theirs = (run(program, *line.split(), cwd=tmp_path) for program in (OURS, THEIRS))
    assert ours.returncode == theirs.returncode != 0, ours.stderr + theirs.stderr
    assert "Traceback" not in ours.stderr and (ours.stderr or ours.stdout)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_a_key_in_pem_form_is_read(tmp_path: Path) -> None:
    run(THEIRS, "-q", "-m", "PEM", "-t", "rsa", "-b", "2048", "-f", "key", "-N", "12345", cwd=tmp_path)
    same("-l", "-f", "key", cwd=tmp_path)
    ours, theirs = (run(program, "-y", "-P", "12345", "-f", "key", cwd=tmp_path) for program in (OURS, THEIRS))
    assert ours.stdout.split()[:2] == theirs.stdout.split()[:2]


def test_full_names_of_key_types_are_accepted(tmp_path: Path) -> None:
    for number, name in enumerate(("ssh-ed25519", "ecdsa-sha2-nistp384", "SSH-ED25519")):
        made = run(OURS, "-t", name, "-N", "", "-f", f"key{number}", cwd=tmp_path)
        assert made.returncode == 0 and made.stdout.startswith(f"Generating public/private {name} key pair.\n"), made.stderr
        assert (tmp_path / f"key{number}.pub").read_text().split()[0] == name.lower()


FORMATS = [("ecdsa", "PEM"), ("rsa -b 2048", "pkcs8"), ("ed25519", "PEM"), ("ecdsa", "rfc4716")]


@pytest.mark.parametrize(("kind", "form"), FORMATS)
def test_private_keys_are_written_in_other_formats(kind: str, form: str, tmp_path: Path) -> None:
    for name, program in (("ours", OURS), ("theirs", THEIRS)):
        made = run(program, "-q", "-m", form, "-t", *kind.split(), "-f", name, "-N", "", "-C", "c", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    first = [(tmp_path / name).read_text().partition("\n")[0] for name in ("ours", "theirs")]
    assert first[0] == first[1]
    for new in ("correct horse", ""):
        assert (
            run(OURS, "-p", "-m", form, "-P", "" if new else "correct horse", "-N", new, "-f", "ours", cwd=tmp_path).returncode
            == 0
        )
        assert same("-y", "-P", new, "-f", "ours", cwd=tmp_path).split()[:2] == (tmp_path / "ours.pub").read_text().split()[:2]
    if kind != "ed25519" and form != "rfc4716":
        short = run(OURS, "-p", "-m", form, "-P", "", "-N", "1234", "-f", "ours", cwd=tmp_path)
        assert short.returncode == 1 and "Saving key" in short.stderr


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa -b 2048"])
def test_public_keys_are_converted_as_by_ssh_keygen(kind: str, tmp_path: Path) -> None:
    run(THEIRS, "-q", "-t", *kind.split(), "-f", "key", "-N", "", cwd=tmp_path)
    for form in ("RFC4716", "PKCS8", "PEM", "nosuch"):
        if kind != "ed25519" or form == "RFC4716":
            (tmp_path / "export").write_text(same("-e", "-m", form, "-f", "key", cwd=tmp_path))
            assert same("-e", "-m", form, "-f", "key.pub", cwd=tmp_path) == (tmp_path / "export").read_text()
            same("-i", "-m", form, "-f", "export", cwd=tmp_path)
    same("-e", "-f", "absent", cwd=tmp_path)
    same("-i", "-f", "key", cwd=tmp_path)
    same("-i", "-m", "PKCS8", "-f", "key", cwd=tmp_path)


SHORT_KEY = """\
-----BEGIN PRIVATE KEY-----
MIIBUwIBADANBgkqhkiG9w0BAQEFAASCAT0wggE5AgEAAkEA8Ca73C+BkJu6eLZs
AB8Jy1wTm2UkeFuxWkeUb1Khhoi07q4oSHXKZZ3PTqeB5U4L1APeaZRJ9fNqe4Qb
olCs/QIDAQABAkA3P2H2jMNM5lam0KjV+k4Bh8RG+qTCP630bAU8+xCH51dI3YOI
2AQh2rtuQhSiVvR9BokwPJ9e4Dbnjh04k4BhAiEA+uRHKzwqtDRgdCSCT4sE1o8r
hy69gAgiFm0Y5lX3KKUCIQD1CnlAaqfysL23YWeoA3WygpUHxQV9NQURkYjBn0Pr
eQIgL6tX6lsQMhURjn+xUrOzQ6EIQDMdRkpFT8WCyaDjyRECIFIdgmiN1V5E0C7F
24C4OBbsH5kM8zv0KpCqnpOUFaSxAiBZOjwux6ZjCazeBDpUjjihOTB0az4Qwneo
epFjzfmRLg==
-----END PRIVATE KEY-----
"""


def test_a_private_key_that_is_too_short_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "short").write_text(SHORT_KEY)
    (tmp_path / "short").chmod(0o600)
    for program in (OURS, THEIRS):
        done = run(program, "-l", "-f", "short", cwd=tmp_path)
        assert done.returncode == 255 and "key file." in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("passphrase", ["secret phrase", ""])
def test_without_a_terminal_standard_input_answers(passphrase: str, tmp_path: Path) -> None:
    """Its end is an empty passphrase."""
    answers = f"{passphrase}\n" * 2 if passphrase else ""
    for name, program in (("ours", OURS), ("theirs", THEIRS)):
        made = run(program, "-q", "-t", "ed25519", "-f", name, cwd=tmp_path, stdin=answers)
        assert made.returncode == 0, made.stderr
        assert same("-y", "-P", passphrase, "-f", name, cwd=tmp_path) == same("-y", "-f", name, cwd=tmp_path, stdin=answers)
