"""The plan of an escalation: flags/become/plan.py builds it, the hub sends it to the agent, and become/escalation.py runs it.

For the type checker only: this file does not run on targets.
"""

from __future__ import annotations

from typing import TypedDict


class EscalationPlan(TypedDict):
    """The programs that enter an account, their secrets and prompts. JSON can encode it."""

    method: str
    user: str
    argv: list[str]
    form: str
    shell: str | None
    stdin: str  # "tty" or "pipe"
    programs: list[str]  # their kinds
    asking: list[str]  # the kinds of programs that may ask for a password
    secrets: list[str]  # the kinds that the hub has
    prompts: list[str]
    chdir: str | None
    timeout: float  # seconds
    via: EscalationPlan | None  # enters the account that this one starts in
