"""Environment variables that switch off optimisations: each is on unless its variable is "0".

Switch them off to find out whether one of them causes a fault; only the speed should change. Standard library only, because
workers import this file for every task.
"""

from __future__ import annotations

import os

VARIABLES = ("PMITOGEN_PRELOAD", "PMITOGEN_TARGET_PRELOAD", "PMITOGEN_PIPELINE")


def preload_enabled() -> bool:
    """Return True if the controller's processes load and compute ahead of demand (``PMITOGEN_PRELOAD``)."""
    return _is_on("PMITOGEN_PRELOAD")


def target_preload_enabled() -> bool:
    """Return True if a target's runner imports modules ahead of tasks and reuses compiled code (``PMITOGEN_TARGET_PRELOAD``)."""
    return _is_on("PMITOGEN_TARGET_PRELOAD")


def request_pipelining_enabled() -> bool:
    """Return True if requests are sent before earlier ones are answered, and are compressed (``PMITOGEN_PIPELINE``)."""
    return _is_on("PMITOGEN_PIPELINE")


def _is_on(name: str) -> bool:
    return os.environ.get(name) != "0"
