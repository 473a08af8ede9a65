#!/usr/bin/env python3
"""Builds and checks a release: ``release.py [--tag]``

Builds the committed state, never what is only in the work tree: wheel, source distribution and collection, each twice in
separate directories. The two results must be equal byte for byte. Checks the manifest, the description and the installed
wheel; ansible-lint reads the collection and the plays of the pages. Writes the files, a bill of materials (CycloneDX) and
SHA256SUMS to ``dist/``. Uploads nothing.

``--tag`` also sets the annotated tag ``vVERSION``. This needs a clean work tree, the version's date in CHANGELOG.md, and the
owner's addresses in the place of ``pmitogen.example``; CONTRIBUTING.md, "Before the first release", lists them.

Times inside the files are SOURCE_DATE_EPOCH, by default the time of the commit.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
DIST = HERE / "dist"
PLACEHOLDER = "pmitogen.example"
SAYS_SO = "this address is a placeholder"  # in SECURITY.md
NOT_SEARCHED = ("tools/release.py", "tests/")  # they name the placeholder, whatever the addresses are
COLLECTION = "ansible_collections/pmitogen/core"


class Failure(Exception):
    """The release cannot be made; the text says why."""


def run(*command: object, cwd: Path = HERE, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output. Raises Failure with what it printed."""
    argv = list(map(str, command))
    whole = {**os.environ, **(env or {})}
    done = subprocess.run(argv, cwd=cwd, env=whole, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def version_of(directory: Path) -> str:
    """Return the version in *directory*. Raises Failure unless package and collection have the same."""
    ours = re.findall(r'^__version__ = "(.+)"$', (directory / "pmitogen/_version.py").read_text(), re.M)
    theirs = re.findall(r"^version: (.+)$", (directory / COLLECTION / "galaxy.yml").read_text(), re.M)
    if len(ours) != 1 or ours != theirs:
        raise Failure(f"pmitogen/_version.py has {ours}, galaxy.yml has {theirs}")
    return ours[0]


def export(directory: Path) -> None:
    """Write the committed files to *directory*, with the same modes on every machine."""
    directory.mkdir()
    archive = directory.with_suffix(".tar")
    run("git", "-c", "tar.umask=0022", "archive", "-o", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    archive.unlink()


def normalise(path: Path, epoch: int) -> None:
    """Rewrite a .tar.gz without what differs between two builds: times, owners, order, the compressor's header."""
    packed = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as stream:
        stream.write(packed.getvalue())


def build(source: Path, out: Path, epoch: int) -> list[Path]:
    """Build wheel, source distribution and collection from *source* into *out*; return them by name."""
    os.umask(0o022)
    env = {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    run(sys.executable, "-m", "build", "-q", "--outdir", out, source, cwd=source, env=env)
    run(sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--output-path", out, source / COLLECTION, env=env)
    for path in out.glob("*.tar.gz"):
        normalise(path, epoch)
    return sorted(out.iterdir())


def check_install(wheel: Path, version: str, directory: Path) -> None:
    """Install *wheel* in an environment of its own, run its command, and write the bill of materials next to it."""
    python = directory / "venv/bin/python"
    run(sys.executable, "-m", "venv", directory / "venv")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=directory)
    shown = run(python, "-m", "pmitogen", "--version", cwd=directory).strip()
    if shown != f"pmitogen {version}":
        raise Failure(f"the installed wheel says {shown!r}, not pmitogen {version}")
    run(python, "-m", "pip", "uninstall", "-q", "-y", "pip", cwd=directory)  # the bill holds what runs, and no installer
    bill = wheel.parent / f"pmitogen-{version}.cdx.json"
    argv = ("environment", "--output-reproducible", "--pyproject", HERE / "pyproject.toml", "-o", bill, python)
    run(sys.executable, "-m", "cyclonedx_py", *argv)


def placeholders() -> list[str]:
    """Return the committed files with an address that the owner has not set."""
    names = [name for name in run("git", "ls-files").splitlines() if not name.startswith(NOT_SEARCHED)]
    marks = PLACEHOLDER.encode(), SAYS_SO.encode()
    return [name for name in names if any(mark in (HERE / name).read_bytes() for mark in marks)]


def check_plays(source: Path, directory: Path) -> None:
    """Raise Failure with what ansible-lint finds in the collection or in the plays of the pages."""
    collection, plays = directory / COLLECTION, directory / "plays"
    shutil.copytree(source / COLLECTION, collection)
    plays.mkdir()
    run(sys.executable, source / "tools/docs/plays.py", plays)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_COLLECTIONS_PATH": str(directory),
    }
    for place in (collection, plays):
        run(
            sys.executable,
            "-m",
            "ansiblelint",
            "--offline",
            "-q",
            "--profile",
            "production",
            "--project-dir",
            place,
            cwd=place,
            env=env,
        )


def check_taggable(version: str) -> None:
    """Raise Failure unless the commit can carry the version's tag."""
    if run("git", "status", "--porcelain"):
        raise Failure("--tag: the work tree has changes that are not committed")
    if run("git", "tag", "--list", f"v{version}"):
        raise Failure(f"--tag: there is a tag v{version}; raise the version in pmitogen/_version.py and galaxy.yml")
    held = placeholders()
    if held:
        raise Failure(f"--tag: replace {PLACEHOLDER} by the project's address in {', '.join(held)}")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", (HERE / "CHANGELOG.md").read_text(), re.M):
        raise Failure(f"--tag: CHANGELOG.md has no heading '## {version} (YYYY-MM-DD)'")


def release(tag: bool) -> None:
    """Build, check, and write ``dist/``; with *tag* set the tag. Raises Failure."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    if tag:
        check_taggable(version_of(HERE))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        results = []
        for name in ("first", "second"):
            source, out = work / f"{name}-source", work / name
            export(source)
            out.mkdir()
            print(f"release: building ({name} of two)", flush=True)
            results.append(build(source, out, epoch))
        version = version_of(work / "first-source")
        first, second = ([(path.name, path.read_bytes()) for path in built] for built in results)
        if first != second:
            wrong = [one[0] for one, other in zip(first, second, strict=False) if one != other]
            raise Failure(f"two builds differ: {', '.join(wrong) or 'in their files'}")
        print("release: checking", flush=True)
        if (HERE / ".git").exists():
            run(sys.executable, "-m", "check_manifest", "-q")
        packages = [path for path in results[0] if not path.name.startswith("pmitogen-core-")]
        run(sys.executable, "-m", "twine", "check", "--strict", *packages)
        (wheel,) = (path for path in packages if path.suffix == ".whl")
        check_install(wheel, version, work)
        check_plays(work / "first-source", work / "lint")
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(work / "first", DIST)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(DIST.iterdir())]
    (DIST / "SHA256SUMS").write_text("".join(sums))
    print("".join(sums) + f"release: pmitogen {version}, commit {run('git', 'rev-parse', '--short', 'HEAD').strip()}, in dist/")
    if tag:
        run("git", "tag", "-a", f"v{version}", "-m", f"pmitogen {version}")
        print(f"release: tagged v{version}; publish it with: git push origin v{version}")


def main(argv: list[str]) -> int:
    if argv not in ([], ["--tag"]):
        print("usage: release.py [--tag]", file=sys.stderr)
        return 2
    try:
        release(bool(argv))
    except Failure as failure:
        print(f"release: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
