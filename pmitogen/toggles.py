"""What is done for speed alone, each group with its way off: a variable of the environment that is "0".

To see whether a fault is one of these, switch them off; nothing but the time that things take should change. Standard library
only: workers ask in every task.
"""

from __future__ import annotations

import os

VARIABLES = ("PMITOGEN_WARM", "PMITOGEN_SPARES", "PMITOGEN_WIRE")


def works_ahead() -> bool:
    """Whether the controller's processes do before they are asked what they are going to be asked (``PMITOGEN_WARM``)."""
    return _is_on("PMITOGEN_WARM")


def warms_targets() -> bool:
    """Whether a target's runner keeps modules and processes ready, and lends what it has compiled (``PMITOGEN_SPARES``)."""
    return _is_on("PMITOGEN_SPARES")


def saves_trips() -> bool:
    """Whether a request follows one that has not been answered yet, and is packed for the distance (``PMITOGEN_WIRE``)."""
    return _is_on("PMITOGEN_WIRE")


def _is_on(name: str) -> bool:
    return os.environ.get(name) != "0"
