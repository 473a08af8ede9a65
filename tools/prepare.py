#!/usr/bin/env python3
"""Makes the environments that demo, tests and bench run in: ``prepare.py STEP...``

Steps:

``system``
    What the tests start besides Python (sshd, sudo, doas, shells ...), by apt, if it is missing and we are root. Where it
    cannot be had this says so and goes on: the tests that need it are skipped and counted.
``main`` or ``main:test``
    ``.venv``: this project with the newest ansible-core that a Python found here supports; ``:test`` adds the test tools.
``main@3.11:test``
    ``.venv-py3.11``: the same with exactly that Python.
``oldest:test``
    ``.venv-oldest``: the oldest ansible-core, Paramiko and Mitogen that pyproject.toml allows.
``upstream:test``
    ``.venv-upstream``: the development branches of the three. This fetches them from their repositories.
``2.16`` ... ``2.22``
    ``.venv-2.16`` ...: this project with that ansible-core. Where no fitting Python is found this says so and goes on.
    Of one that has no final release yet its newest release candidate is taken.
``newest``
    Brings the environment of the newest ansible-core up to date, and makes one with the first pre-release of the ansible-core
    after it, if there is one: so each release candidate is tested as soon as it appears.
``2.19@3.12``
    ``.venv-2.19-py3.12``: the same with exactly that Python, for comparisons.
``others``
    ``.venv-others``: as ``main``, with programs of others that start Ansible, and the collection ansible.posix in
    ``.venv-others/collections``, for the slow tests. The collection comes from the package ``ansible`` (55 MB), which PyPI has.
``extras``
    ``.venv-extras``: as ``main``, with what PKCS#11 and Kerberos need, and by apt a token in software and a Kerberos server, for
    the slow tests. Where it cannot be made this says so and goes on.
``release``
    ``.venv-release``: as ``main``, with what builds and checks a release.
``library``
    ``.venv-library``: as ``main``, with Dask, pyright, and the SSH libraries of others that the benchmark compares with.
``docs``
    ``.venv-docs``: as ``main``, with what builds the documentation site.

Each environment holds a stamp of what it was made from, so a second run only compares stamps.
Runs on any Python 3.8 or newer, with nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

# ansible-core -> the Pythons it runs on here, best first (its own bounds, within pmitogen's: 3.10 to 3.14).
PYTHONS_OF_CORE = {
    "2.22": ("3.13", "3.14"),
    "2.21": ("3.12", "3.13", "3.14"),
    "2.20": ("3.12", "3.13", "3.14"),
    "2.19": ("3.11", "3.12", "3.13"),
    "2.18": ("3.11", "3.12", "3.13"),
    "2.17": ("3.10", "3.11", "3.12"),
    "2.16": ("3.10", "3.11", "3.12"),
}
NEWEST = next(iter(PYTHONS_OF_CORE))
OTHERS = ("ansible-builder>=3.1", "ansible-runner>=2.4", "pytest>=8", "pytest-ansible>=25", "pytest-testinfra>=10")
LIBRARY = ("pyright[nodejs]>=1.1.390", "pytest>=8", "asyncssh>=2.18", "fabric>=3.2", "parallel-ssh>=2.12")
UPSTREAM = tuple(
    "git+https://github.com/" + name for name in ("paramiko/paramiko", "mitogen-hq/mitogen", "ansible/ansible@devel")
)
TOOLS = ("release", "docs")  # steps with an environment of their own, each named after its extra in pyproject.toml
MAIN_CORES = ("2.21", "2.19", "2.17")  # .venv takes the first that a Python found here runs

# A program that tells whether it is there -> Debian's package with it.
PROGRAMS = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "sudo": "sudo",
    "doas": "opendoas",
    "busybox": "busybox-static",  # the other has no su
    "toybox": "toybox",
    "rsync": "rsync",
    "setfacl": "acl",
    "setfattr": "attr",
    "fish": "fish",
    "zsh": "zsh",
    "tcsh": "tcsh",
    "strace": "strace",
    "ps": "procps",
    "inotifywait": "inotify-tools",
    "ip": "iproute2",
}


EXTRAS_PROGRAMS = {
    "softhsm2-util": "softhsm2",
    "pkcs11-tool": "opensc",
    "krb5kdc": "krb5-kdc",
    "kadmin.local": "krb5-admin-server",
    "kinit": "krb5-user",
    "krb5-config": "libkrb5-dev",  # from which the package gssapi is compiled
    "cc": "gcc",
}


def say(text: str) -> None:
    print("prepare: " + text, flush=True)


def run(*command: str, quiet: bool = False) -> bool:
    """Runs a command without standard input; True if it succeeded. *quiet* hides what it prints."""
    out = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=HERE).returncode == 0


# -- programs ---------------------------------------------------------------------------------------------------------------


def missing_packages(programs: dict[str, str]) -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    return [package for program, package in programs.items() if not shutil.which(program, path=path)]


def install_system(programs: dict[str, str]) -> None:
    """Installs the missing programs, if that is possible without asking anyone."""
    missing = missing_packages(programs)
    if not missing:
        return
    names = " ".join(missing)
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("apt-get"):
        say("NOT INSTALLED: " + names + ": this needs root and apt; the tests that need them will be skipped")
        return
    say("installing " + names)
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    keep_config = ("-o", "Dpkg::Options::=--force-confold")
    install = ("apt-get", "install", "-qq", "-y", "--no-install-recommends") + keep_config
    run("apt-get", "update", "-qq", quiet=True)
    if not run(*install, *missing, quiet=True):
        for package in missing:  # one unknown name fails them all
            run(*install, package, quiet=True)
    still = missing_packages(programs)
    if still:
        say("NOT INSTALLED: " + " ".join(still) + ": the tests that need them will be skipped")


# -- Pythons ----------------------------------------------------------------------------------------------------------------


def candidates(version: str) -> Iterator[str]:
    """Where an interpreter of *version* ("3.12") may be."""
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        yield sys.executable
    for directory in os.environ.get("PATH", "").split(":"):
        yield os.path.join(directory, "python" + version)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for root in (pyenv / "versions", Path("/opt/python"), Path.home() / ".local/share/uv/python"):
        for found in sorted(root.glob("*" + version + "*/bin/python" + version), reverse=True):
            yield str(found)
    yield "/usr/bin/python3"


def find_python(version: str) -> str | None:
    """An interpreter of *version* that can make virtual environments, or None."""
    check = "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
    for path in candidates(version):
        if os.access(path, os.X_OK) and run(path, "-c", check, version, quiet=True):
            return path
    return None


def pythons_of(core: str) -> tuple[str, ...]:
    """The Pythons that *core* runs on; of a core that is not known yet: those of the newest."""
    return PYTHONS_OF_CORE.get(core, PYTHONS_OF_CORE[NEWEST])


def choose(cores: Sequence[str], only: str) -> tuple[str, str] | None:
    """The first of *cores* that a Python found here runs, with that Python; *only*: the one version that will do, or empty."""
    for core in cores:
        for version in pythons_of(core):
            if only and version != only:
                continue
            python = find_python(version)
            if python:
                return core, python
    return None


# -- environments -----------------------------------------------------------------------------------------------------------


def stamp_of(core: str, extra: str, more: Sequence[str] = ()) -> str:
    metadata = (HERE / "pyproject.toml").read_text(encoding="utf-8").partition("\n[tool.")[0]  # not the tools' settings
    inputs = (metadata + (HERE / "pmitogen/_version.py").read_text() + core + extra + "".join(more)).encode()
    return hashlib.sha256(inputs).hexdigest()


def is_ready(directory: Path, cores: Sequence[str], extras: Sequence[str], more: Sequence[str] = ()) -> bool:
    stamp = directory / ".stamp"
    if not stamp.exists() or not (directory / "bin/python").exists():
        return False
    return stamp.read_text() in {stamp_of(core, extra, more) for core in cores for extra in extras}


def following(core: str) -> str:
    """The version after *core*: 2.23 for 2.22."""
    major, minor = core.split(".")
    return "%s.%d" % (major, int(minor) + 1)


def requirement(core: str) -> str:
    """Return pip's requirements for *core*. Only for the newest are pre-releases allowed: it may have no other."""
    oldest = core + ".0a0" if core not in PYTHONS_OF_CORE or core == NEWEST else core
    return "ansible-core>=%s,<%s" % (oldest, following(core))


def make_environment(directory: Path, cores: Sequence[str], extra: str, more: Sequence[str] = (), only: str = "") -> bool:
    """Make *directory* a virtual environment with this project, one of *cores* and *more*; True unless that is impossible.

    *only*: the version of Python that it must have.
    """
    # An environment with the test tools does for a caller that does not ask for them.
    if is_ready(directory, cores, [extra] if extra else ["", "test"], more):
        return True
    chosen = choose(cores, only)
    if chosen is None:
        wanted = [only] if only else sorted({version for core in cores for version in pythons_of(core)})
        say("NO PYTHON for ansible-core %s: wanted one of %s, with its venv module" % (" or ".join(cores), ", ".join(wanted)))
        return False
    core, python = chosen
    if core != cores[0]:
        say("no Python for ansible-core %s here; taking %s" % (cores[0], core))
    say("making %s: ansible-core %s on %s" % (directory.name, core, python))
    ours = str(HERE) + ("[%s]" % extra if extra else "")
    pip = str(directory / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"
    if not (run(python, "-m", "venv", "--clear", str(directory)) and run(*pip, "-e", ours, requirement(core), *more)):
        say("FAILED: %s could not be made; see above" % directory.name)
        return False
    (directory / ".stamp").write_text(stamp_of(core, extra, more))
    return True


def update_newest(extra: str) -> None:
    """The step ``newest``; see the head of this file."""
    directory = HERE / (".venv-" + NEWEST)
    if not make_environment(directory, (NEWEST,), extra):
        return
    pip = str(directory / "bin/python"), "-m", "pip", "--disable-pip-version-check"
    if not run(*pip, "install", "-q", "--upgrade", requirement(NEWEST)):
        say("could not look for a newer ansible-core %s; going on with what is there" % NEWEST)
    after = following(NEWEST)
    args = (*pip, "index", "versions", "--pre", "ansible-core")  # says first: ansible-core (VERSION)
    listed = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    if listed.startswith("ansible-core (%s." % after):
        make_environment(HERE / (".venv-" + after), (after,), extra)
    else:
        say("no pre-release of ansible-core %s yet" % after)


def oldest_dependencies() -> tuple[str, ...]:
    """The lower bounds of the dependencies in pyproject.toml, as requirements."""
    (line,) = re.findall(r"^dependencies = (.+)$", (HERE / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    return tuple("%s==%s" % found for found in re.findall(r'"([a-z-]+)>=([0-9.]+)', line))


def make_upstream(extra: str) -> bool:
    """The step ``upstream``: pip would refuse versions above our bounds, so these are installed after the rest, and alone."""
    directory = HERE / ".venv-upstream"
    if not make_environment(directory, (NEWEST,), extra):
        return False
    pip = str(directory / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"
    if run(*pip, "--upgrade", "--no-deps", "--force-reinstall", *UPSTREAM):
        return True
    say("FAILED: the development branches could not be installed; see above")
    return False


def add_collection(directory: Path, name: str) -> None:
    """Extract one collection of the package ``ansible`` to *directory*/collections, unless it is there."""
    target = directory / "collections"
    members = "ansible_collections/" + name.replace(".", "/") + "/"
    if (target / members).is_dir():
        return
    say("fetching the collection %s" % name)
    with tempfile.TemporaryDirectory() as temporary:
        args = (
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            temporary,
        )
        if not run(str(directory / "bin/python"), *args, "ansible"):
            say("NO COLLECTION %s: the tests that need it will be skipped" % name)
            return
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target, [each for each in archive.namelist() if each.startswith(members)])


def main(steps: Sequence[str]) -> int:
    for step in steps:
        name, _, extra = step.partition(":")
        core, _, python = name.partition("@")
        if name == "system":
            install_system(PROGRAMS)
        elif name == "main":
            if not make_environment(HERE / ".venv", MAIN_CORES, extra):
                return 1
        elif core == "main" and python in {version for each in MAIN_CORES for version in PYTHONS_OF_CORE[each]}:
            if not make_environment(HERE / (".venv-py" + python), MAIN_CORES, extra, only=python):
                return 1
        elif name == "oldest":
            if not make_environment(HERE / ".venv-oldest", tuple(PYTHONS_OF_CORE)[-1:], extra, oldest_dependencies()):
                return 1
        elif name == "upstream":
            if not make_upstream(extra):
                return 1
        elif name == "newest":
            update_newest(extra)
        elif name == "others":
            if make_environment(HERE / ".venv-others", MAIN_CORES, "", OTHERS):
                add_collection(HERE / ".venv-others", "ansible.posix")
        elif name == "extras":
            install_system(EXTRAS_PROGRAMS)
            make_environment(HERE / ".venv-extras", MAIN_CORES, "pkcs11,kerberos")
        elif name == "library":
            make_environment(HERE / ".venv-library", MAIN_CORES, "dask", LIBRARY)
        elif name in TOOLS:
            if not make_environment(HERE / (".venv-" + name), MAIN_CORES, name):
                return 1
        elif name in PYTHONS_OF_CORE:
            make_environment(HERE / (".venv-" + name), (name,), extra)
        elif core in PYTHONS_OF_CORE and python in PYTHONS_OF_CORE[core]:
            make_environment(HERE / (".venv-%s-py%s" % (core, python)), (core,), extra, only=python)
        else:
            usual = "system main main:test main@3.11:test oldest upstream newest others extras library release docs"
            known = usual + " " + " ".join(PYTHONS_OF_CORE)
            say("unknown step %r; use one of: %s" % (step, known))
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
