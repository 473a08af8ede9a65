"""A runner in another account: an escalation (see pmitogen/become/escalation.py), driven by the agent's loop.

The loop reads the terminal and the program's stdout as two lines and looks in every ``POLL_INTERVAL`` until the runner is up;
from then on its stdout (and stdin) are the runner's line, and the terminal is drained. The escalation owns the descriptors; the
lines only borrow them.

A secret stays at the hub until a prompt waits for it: the frame ``ask`` says which, and ``secret`` brings it.
"""

import os
import sys

from pmitogen.become import entry
from pmitogen.become import escalation as base
from pmitogen.become import terminal
from pmitogen.become.strings import native
from pmitogen.target import login_state, start_state
from pmitogen.target.event_loop import Line

LOST = "the login account's interpreter has given up limits or priority for good, which other accounts must have"
POLLS_AFTER_CLOSE = 60  # looks at a program that was hung up, before it is nobody's concern


class Start(object):
    """One escalation under way, for one runner."""

    def __init__(self, agent, runner, plan, command, token, preparation, state):
        self._agent = agent
        self._runner = runner
        self._loop = agent.loop
        self._tty = self._out = None  # lines
        self._over = False
        env = state and dict((native(name), native(value)) for name, value in state.environ.items())
        prepare = state and state.apply
        self._escalation = base.Escalation(plan, command, token, env=env, preparation=preparation, prepare=prepare)
        runner.release = self.release
        runner.said = self._escalation.said
        runner.settle = self._settle
        runner.on_secret = self.on_secret

    def begin(self):
        """Start the program. What fails is told to whoever waits for the runner."""
        escalation = self._escalation
        try:
            escalation.start()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        self._tty = self._listen(escalation.tty_fd, self._on_tty)
        self._out = self._listen(escalation.out_fd, self._on_output)
        self._loop.later(base.POLL_INTERVAL, self._poll)

    def _listen(self, fd, on_data):
        return Line(self._loop, fd, None, on_data, lambda: on_data(b""), borrowed=True)

    def _step(self, work, *args):
        """Do something with the escalation, and then what that leads to."""
        if self._over:
            return
        try:
            work(*args)
            request = self._escalation.take_request()
            if request is not None:
                self._agent.send({"op": "ask", "acct": self._runner.acct, "step": request[0], "kind": request[1]}, b"")
            self._write(self._escalation.take_answer())
            rest = self._escalation.take_rest()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        except Exception as exc:  # a fault of ours is this account's failure, and not the end of the agent
            sys.excepthook(*sys.exc_info())
            self._fail(base.BecomeFailure("other", "internal error: %s" % type(exc).__name__))
            return
        if rest is not None:
            self._out.out_fd = self._escalation.in_fd
            self._runner.up(self._out, self._agent.bundle())
            if rest:
                self._out.on_data(rest)

    def _write(self, answer):
        try:
            if answer:
                os.write(self._escalation.tty_fd, answer)
        except OSError:  # it is over, and its end says why
            pass

    def _on_tty(self, data):
        self._step(self._escalation.on_tty, data)

    def _on_output(self, data):
        self._step(self._escalation.on_output, data)

    def on_secret(self, header, body):
        """The hub answers ``ask``: the body is the secret, or ``why`` says why it is withheld."""
        if header.get("why"):
            self._step(self._escalation.withhold, header["why"])
        else:
            self._step(self._escalation.give, header["step"], header["kind"], body)

    def _poll(self):
        if self._over or self._escalation.up:
            return
        self._step(self._escalation.poll)
        self._loop.later(base.POLL_INTERVAL, self._poll)

    def _fail(self, exc):
        self._runner.fail("become", exc.message, exc.kind)
        self.release()

    def _settle(self, then):
        """Do *then* once the command's last words are here."""
        if self._over or self._escalation.settled():
            then()
        else:
            self._loop.later(base.POLL_INTERVAL / 5, lambda: self._settle(then))

    def release(self):
        """End it: forget the descriptors, then close them, then collect the program."""
        if self._over:
            return
        self._over = True
        for line in (self._tty, self._out):
            if line is not None:
                line.close()
        self._escalation.close()
        self._reap(POLLS_AFTER_CLOSE)

    def _reap(self, looks):
        if looks and not self._escalation.reap():
            self._loop.later(base.POLL_INTERVAL, lambda: self._reap(looks - 1))
        elif self._runner.left:
            self._runner.left()


def describe(plan, path):
    """What a plan leads through: the paths of its programs by *path* (PATH), the accounts, whether a login shell is between."""
    found = {"programs": [], "users": [], "shell": False}
    while plan:
        for word in plan["argv"]:
            name = word.rpartition("/")[2]
            if name in ("dzdo", "sudo", "su", "doas") or name[:5] in ("sudo.", "sudo-") or name[:3] == "su-":
                word = word.encode("utf-8")
                found["programs"].append((terminal.find_program(word, path) or word).decode("utf-8"))
        found["users"].append(plan["user"])
        found["shell"] = found["shell"] or plan["shell"] is not None
        plan = plan["via"]
    return found


def start(agent, runner, header, command, env):
    """Begin to start *runner* in the account that ``header['plan']`` leads to; does not wait.

    *command* and *env* (for that account) are bytes.
    """
    state = login_state.read()
    path = state.environ.get(b"PATH", b"") if state is not None else os.environ.get("PATH", "").encode("utf-8")
    place = describe(header["plan"], path)
    runner.place.update(place, users=place["users"] + runner.place["users"])
    if state is not None and header.get("wraps") and state.is_lost():
        agent.loop.defer(lambda: runner.fail("become", LOST, "state"))
        return
    variables = dict((native(name), native(value)) for name, value in env.items())
    preparation = entry.exports(variables) + start_state.SH_SAFE_PATH
    words = [native(word) for word in command] + ["entered"]
    Start(agent, runner, header["plan"], words, header["token"], preparation, state).begin()
