"""Register secrets for masking that Ansible cannot recognise (ansible-core 2.22 and later; earlier ones do not mask by value).

Ansible itself registers options that are documented with ``secret: true``, but only texts. An option that is a mapping needs
this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def mask_values(option: object) -> None:
    """Register every text and number in *option*, at any depth, so that Ansible shows ``$REDACTED$`` instead of it."""
    try:
        from ansible.module_utils.secrets import register_secrets
    except ImportError:
        return
    register_secrets(list(_leaves(option)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
