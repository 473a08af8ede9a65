"""The package's table of contents: complete, and free of charge."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import pmitogen
from pmitogen import errors

HEAVY = ("paramiko", "mitogen", "ansible", "cryptography", "argparse", "asyncio")


def test_import_is_free() -> None:
    code = f"import sys, pmitogen, pmitogen.errors; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    assert loaded.strip() == "[]"


def test_all_is_exactly_what_is_public() -> None:
    error_names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.Error)}
    library = {
        "Ask",
        "Completed",
        "ConnectOptions",
        "Forwarding",
        "Host",
        "Hub",
        "Jump",
        "Outcome",
        "Process",
        "Terminal",
        "connect",
    }
    assert set(pmitogen.__all__) == error_names | library | {"__version__", "connect"}
    assert pmitogen.__all__ == sorted(pmitogen.__all__)


@pytest.mark.parametrize("name", pmitogen.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(pmitogen, name) is not None
    assert name in dir(pmitogen)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hosts'"):
        pmitogen.Hosts  # noqa: B018


def test_the_plugin_needs_no_more_than_ansible() -> None:
    """The modules that a task's process imports before its first request: no SSH and no Mitogen."""
    if importlib.util.find_spec("ansible") is None:
        pytest.skip("no ansible-core in this interpreter")
    code = "import sys, pmitogen.ansible.options.register;"
    code += "print([n for n in ('paramiko', 'mitogen', 'cryptography') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    # Ansible itself loads cryptography for its vault.
    assert "paramiko" not in loaded and "mitogen" not in loaded
