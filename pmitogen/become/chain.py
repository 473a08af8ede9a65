"""The programs of one escalation, each started in the account that the previous one entered: ``sudo -u alice``, then ``su``.

Most escalations have one step. If there are several, each step starts the next one after it has printed its own entry marker.
So only one step may ask for its secret at any moment: the first step whose account is not yet entered.

NOTE: runs on the target.
"""

from __future__ import absolute_import

from pmitogen.become import entry, prompt_patterns, quoting

MYPY = False
if MYPY:
    from typing import FrozenSet, List, Optional, Set  # noqa: F401
    from pmitogen.become.types import EscalationPlan, Native, Text  # noqa: F401


class EscalationStep(object):
    """One program with its plan, its prompt, its entry marker, and the kinds of secrets that were sent to it."""

    def __init__(self, plan, text, native):
        # type: (EscalationPlan, Text, Native) -> None
        self.plan = plan
        self.programs = [native(name) for name in plan["programs"]]  # more than one for ``become_exe: sudo su -``
        self.prompt = prompt_patterns.random_prompt()
        self.entry = entry.Entry()
        self.prompts = prompt_patterns.Prompts(
            [native(name) for name in plan["asking"]],
            text(self.prompt),
            [text(prompt) for prompt in plan["prompts"]],
            text(plan["user"]),
        )
        self.available = frozenset(native(kind) for kind in plan["secrets"])  # kinds that the hub has
        self.secrets_sent = set()  # type: Set[str]
        self._native = native

    def describe(self):
        # type: () -> str
        """Return "METHOD to USER", for messages."""
        return "%s to %s" % (self._native(self.plan["method"]), self._native(self.plan["user"]))

    def wrap(self, command, shell, preparation=None):
        # type: (List[str], Optional[str], Optional[str]) -> List[str]
        """Return the argument vector that runs *command* in this step's account.

        *shell*: the caller's ``$SHELL``, or None. *preparation*: see :meth:`entry.Entry.command`.
        """
        argv = [self.prompt if argument == "{prompt}" else self._native(argument) for argument in self.plan["argv"]]
        command = self.entry.command(command, preparation)
        form = self.plan["form"]
        if form == "argv":
            return argv + command
        if form == "sudo-shell":
            return argv + quoting.shell_safe_argv(command)
        if form == "own-shell":  # doas -s takes no command: it runs $SHELL, so $SHELL is started here
            argv += [shell or "/bin/sh", "-c"]
        return argv + [quoting.shell_string(command)]


def build_steps(plan, text, native):
    # type: (EscalationPlan, Text, Native) -> List[EscalationStep]
    """Return the steps of *plan* in the order in which they start."""
    plans, via = [plan], plan.get("via")
    while via:
        plans.insert(0, via)
        via = via.get("via")
    return [EscalationStep(each, text, native) for each in plans]
