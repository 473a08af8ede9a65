"""The environment with pmitogen's extras, and a PKCS#11 token in software for it."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from . import session

PYTHON = session.repository / ".venv-extras" / "bin" / "python"
_LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so")


@functools.cache
def problem(module: str) -> str | None:
    """Return the reason why tests of an extra, which installs *module*, cannot run here, or None."""
    if not PYTHON.exists():
        return ".venv-extras (tools/prepare.py extras)"
    done = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, stdin=subprocess.DEVNULL)
    return None if done.returncode == 0 else f"{module} in .venv-extras"


def pmitogen(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of pmitogen with the extras, without a terminal."""
    command = [str(PYTHON), "-m", "pmitogen", *map(str, argv)]
    env = {**os.environ, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=env, start_new_session=True
    )


class SoftToken:
    """A token of SoftHSM in *directory*, with its PIN. *environment*: the variables that its library reads."""

    def __init__(self, directory: Path, pin: str = "4321") -> None:
        self.pin = pin
        self.library = next(path for path in _LIBRARIES if os.path.exists(path))
        (directory / "tokens").mkdir(parents=True)
        config = directory / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(config)}
        self._run("softhsm2-util", "--init-token", "--free", "--label", "card", "--pin", pin, "--so-pin", "87654321")
        self._count = 0

    def add(self, kind: str) -> str:
        """Make a key pair of *kind* (``rsa:2048``, ``EC:prime256v1`` ...); return its label."""
        self._count += 1
        label = f"key{self._count}"
        login = ("pkcs11-tool", "--module", self.library, "--login", "--pin", self.pin)
        self._run(*login, "--keypairgen", "--key-type", kind, "--label", label, "--id", f"{self._count:02}")
        return label

    def _run(self, *argv: str) -> None:
        env = {**os.environ, **self.environment}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr

    def public_keys(self) -> dict[str, str]:
        """Return label -> line of authorized_keys, as pmitogen's code reads them."""
        code = (
            "import sys; from pmitogen.transport.keys import pkcs11_token, public_key\n"
            "for key in pkcs11_token.Library(sys.argv[1]).keys(None, None, 9): "
            "print(key.comment, public_key.public_line(key.blob))"
        )
        env = {**os.environ, **self.environment}
        done = subprocess.run([PYTHON, "-c", code, self.library], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())
