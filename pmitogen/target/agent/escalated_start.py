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
from pmitogen.target.agent.event_loop import Peer

STATE_LOST_MESSAGE = "the login account's interpreter has given up limits or priority for good, which other accounts must have"
MAX_REAP_POLLS = 60  # polls of a program whose terminal was closed, before it is left alone


class EscalatedStart(object):
    """One escalation under way, for one runner."""

    def __init__(self, agent, runner, plan, command, token, preparation, state):
        self._agent = agent
        self._runner = runner
        self._loop = agent.loop
        self._tty = self._out = None  # lines
        self._released = False
        env = state and dict((native(name), native(value)) for name, value in state.environ.items())
        prepare = state and state.apply
        self._escalation = base.Escalation(plan, command, token, env=env, preparation=preparation, prepare=prepare)
        runner.on_released = self.on_released
        runner.last_output = self._escalation.last_output
        runner.wait_for_output = self._wait_for_output
        runner.on_secret = self.on_secret

    def start(self):
        """Start the program. What fails is told to whoever waits for the runner."""
        escalation = self._escalation
        try:
            escalation.start()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        self._tty = self._listen(escalation.tty_fd, self._on_tty)
        self._out = self._listen(escalation.out_fd, self._on_output)
        self._loop.call_later(base.POLL_INTERVAL, self._poll)

    def _listen(self, fd, on_data):
        return Peer(self._loop, fd, None, on_data, lambda: on_data(b""), borrowed=True)

    def _advance(self, work, *args):
        """Do something with the escalation, and then what that leads to."""
        if self._released:
            return
        try:
            work(*args)
            request = self._escalation.take_request()
            if request is not None:
                self._agent.send({"op": "ask", "acct": self._runner.account, "step": request[0], "kind": request[1]}, b"")
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
            self._runner.on_ready(self._out, self._agent.starter.bundle())
            if rest:
                self._out.on_data(rest)

    def _write(self, answer):
        try:
            if answer:
                os.write(self._escalation.tty_fd, answer)
        except OSError:  # it is over, and its end says why
            pass

    def _on_tty(self, data):
        self._advance(self._escalation.on_tty, data)

    def _on_output(self, data):
        self._advance(self._escalation.on_output, data)

    def on_secret(self, header, body):
        """The hub answers ``ask``: the body is the secret, or ``why`` says why it is withheld."""
        if header.get("why"):
            self._advance(self._escalation.withhold, header["why"])
        else:
            self._advance(self._escalation.give, header["step"], header["kind"], body)

    def _poll(self):
        if self._released or self._escalation.running:
            return
        self._advance(self._escalation.poll)
        self._loop.call_later(base.POLL_INTERVAL, self._poll)

    def _fail(self, exc):
        self._runner.fail("become", exc.message, exc.kind)
        self.on_released()

    def _wait_for_output(self, action):
        """Do *then* once the command's last words are here."""
        if self._released or self._escalation.output_complete():
            action()
        else:
            self._loop.call_later(base.POLL_INTERVAL / 5, lambda: self._wait_for_output(action))

    def on_released(self):
        """End it: forget the descriptors, then close them, then collect the program."""
        if self._released:
            return
        self._released = True
        for peer in (self._tty, self._out):
            if peer is not None:
                peer.close()
        self._escalation.close()
        self._reap(MAX_REAP_POLLS)

    def _reap(self, polls_left):
        if polls_left and not self._escalation.reap():
            self._loop.call_later(base.POLL_INTERVAL, lambda: self._reap(polls_left - 1))
        elif self._runner.on_exited:
            self._runner.on_exited()


def describe_plan(plan, path):
    """What a plan leads through: the paths of its programs by *path* (PATH), the accounts, whether a login shell is between."""
    info = {"programs": [], "users": [], "shell": False}
    while plan:
        for word in plan["argv"]:
            name = word.rpartition("/")[2]
            if name in ("dzdo", "sudo", "su", "doas") or name[:5] in ("sudo.", "sudo-") or name[:3] == "su-":
                word = word.encode("utf-8")
                info["programs"].append((terminal.find_program(word, path) or word).decode("utf-8"))
        info["users"].append(plan["user"])
        info["shell"] = info["shell"] or plan["shell"] is not None
        plan = plan["via"]
    return info


def start(agent, runner, header, command, env):
    """Begin to start *runner* in the account that ``header['plan']`` leads to; does not wait.

    *command* and *env* (for that account) are bytes.
    """
    state = login_state.read()
    path = state.environ.get(b"PATH", b"") if state is not None else os.environ.get("PATH", "").encode("utf-8")
    start_info = describe_plan(header["plan"], path)
    runner.start_info.update(start_info, users=start_info["users"] + runner.start_info["users"])
    if state is not None and header.get("wraps") and state.is_lost():
        agent.loop.defer(lambda: runner.fail("become", STATE_LOST_MESSAGE, "state"))
        return
    variables = dict((native(name), native(value)) for name, value in env.items())
    preparation = entry.exports(variables) + start_state.SH_SAFE_PATH
    argv = [native(word) for word in command] + ["entered"]
    EscalatedStart(agent, runner, header["plan"], argv, header["token"], preparation, state).start()
