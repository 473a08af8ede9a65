"""What is done for speed alone, each group with its way off: a variable of the environment that is "0".

To see whether a fault is one of these, switch them off; nothing but the time that things take should change. Standard library
only: workers ask in every task.
"""

from __future__ import annotations

import os

VARIABLES = ("PMITOGEN_PRELOAD", "PMITOGEN_PREFORK", "PMITOGEN_PIPELINE")


def preload_enabled() -> bool:
    """Whether the controller's processes do before they are asked what they are going to be asked (``PMITOGEN_PRELOAD``)."""
    return _is_on("PMITOGEN_PRELOAD")


def target_preload_enabled() -> bool:
    """Whether a target's runner keeps modules and processes ready, and lends what it has compiled (``PMITOGEN_PREFORK``)."""
    return _is_on("PMITOGEN_PREFORK")


def request_pipelining_enabled() -> bool:
    """Whether a request follows one that has not been answered yet, and is packed for the distance (``PMITOGEN_PIPELINE``)."""
    return _is_on("PMITOGEN_PIPELINE")


def _is_on(name: str) -> bool:
    return os.environ.get(name) != "0"
