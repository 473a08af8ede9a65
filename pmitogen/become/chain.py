"""The programs of one escalation, each in the account that the one before it entered: ``sudo -u alice``, then ``su``.

Most escalations have one step. Where there are several, each starts the next behind an entry marker of its own. So it is known at
every moment which step may ask for its secret: the first whose account is not entered yet.

NOTE: runs on the target.
"""

from __future__ import absolute_import

from pmitogen.become import entry, prompts, quoting


class EscalationStep(object):
    """One program: its plan, the prompt and the entry marker that it is given, and the kinds of secrets that it got."""

    def __init__(self, plan, text, native):
        self.plan = plan
        self.programs = [native(name) for name in plan["programs"]]  # more than one for ``become_exe: sudo su -``
        self.prompt = prompts.random_prompt()
        self.entry = entry.Entry()
        self.prompts = prompts.Prompts(
            [native(name) for name in plan["asking"]],
            text(self.prompt),
            [text(word) for word in plan["prompts"]],
            text(plan["user"]),
        )
        self.available = frozenset(native(kind) for kind in plan["secrets"])  # kinds that the hub can give
        self.secrets_sent = set()
        self._native = native

    def describe(self):
        """What it does, for messages."""
        return "%s to %s" % (self._native(self.plan["method"]), self._native(self.plan["user"]))

    def wrap(self, command, shell, preparation=None):
        """The argument vector that runs *command* in this step's account; *shell* is the caller's. See :class:`entry.Entry`."""
        argv = [self.prompt if word == "{prompt}" else self._native(word) for word in self.plan["argv"]]
        command = self.entry.command(command, preparation)
        form = self.plan["form"]
        if form == "argv":
            return argv + command
        if form == "sudo-shell":
            return argv + quoting.shell_safe_argv(command)
        if form == "own-shell":  # doas -s takes no command: it runs $SHELL, and so do we
            argv += [shell or "/bin/sh", "-c"]
        return argv + [quoting.shell_string(command)]


def build_steps(plan, text, native):
    """The steps of *plan*, the first program first."""
    plans = [plan]
    while plans[0].get("via"):
        plans.insert(0, plans[0]["via"])
    return [EscalationStep(each, text, native) for each in plans]
