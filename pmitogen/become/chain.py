"""The programs of one escalation, each in the account that the one before it entered: ``sudo -u alice``, then ``su``.

Most escalations have one step. Where there are several, each wraps the next as its command, and each may ask for a secret of
its own on the same terminal. sudo is told what to ask, so its question names its step; su and doas ask in words of their
own, once each, and in order.

NOTE: runs on the target.
"""

from __future__ import absolute_import

from pmitogen.become import quoting, diagnosis


class Step(object):
    """One program: its plan, the prompt it is given, the secrets it may ask for and those it has been given."""

    def __init__(self, plan, prompt, text, native):
        self.plan = plan
        self.prompt = prompt
        self.method = native(plan["method"])
        self.prompts = diagnosis.Prompts(text(prompt), [text(word) for word in plan["prompts"]])
        self.secrets = {
            diagnosis.PASSWORD: plan.get("password"),
            diagnosis.SECOND_FACTOR: plan.get("otp"),
        }
        self.given = set()
        self._native = native

    def describe(self):
        """What it does, for messages."""
        return "%s to %s" % (self.method, self._native(self.plan["user"]))

    def wrap(self, command, shell):
        """The argument vector that runs *command* in this step's account; *shell* is the caller's."""
        argv = [self.prompt if word == "{prompt}" else self._native(word) for word in self.plan["argv"]]
        form = self.plan["form"]
        if form == "argv":
            return argv + command
        if form == "sudo-shell":
            return argv + quoting.sturdy(command)
        if form == "own-shell":  # doas -s takes no command: it runs $SHELL, and so do we
            argv += [shell or "/bin/sh", "-c"]
        return argv + [quoting.shell_string(command)]


def steps(plan, prompt, text, native):
    """The steps of *plan*, the first program first. *prompt* is sudo's, for the last of them."""
    plans = [plan]
    while plans[0].get("via"):
        plans.insert(0, plans[0]["via"])
    prompts = ["%s (%d):" % (prompt.rstrip(":"), number) for number in range(1, len(plans))] + [prompt]
    return [Step(plans[n], prompts[n], text, native) for n in range(len(plans))]


def asking(all_steps, partial):
    """(step, kind) of the question *partial*; kind as of Prompts.kind, None if no row knows it."""
    for step in all_steps:
        if step.prompts.is_ours(partial):
            return step, diagnosis.PASSWORD
    kind = all_steps[-1].prompts.kind(partial)
    wanted = kind or diagnosis.PASSWORD
    likely = [step for step in all_steps if (step.method == "doas") == ("doas (" in partial)] or all_steps
    if wanted == diagnosis.PASSWORD:
        likely = [step for step in likely if step.method != "sudo"] or likely
    fresh = [step for step in likely if wanted not in step.given]
    able = [step for step in fresh if step.secrets.get(wanted)]
    return (able or fresh or likely[-1:])[0], kind
