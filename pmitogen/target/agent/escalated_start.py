"""Starting a runner in another account: an escalation (see pmitogen/become/escalation.py) in the agent's loop.

The loop reads the terminal and the program's stdout, and polls every ``POLL_INTERVAL`` until the runner is up. From then on
stdout and stdin carry the runner's frames, and the terminal is drained. The escalation owns the descriptors; the peers borrow
them.

The hub keeps a secret until a prompt asks for it: the frame ``secret-request`` asks for it, and ``secret`` brings it.
"""

import os
import sys

from pmitogen.become import entry
from pmitogen.become import escalation as base
from pmitogen.become import terminal
from pmitogen.become.strings import native
from pmitogen.target import login_state, start_state
from pmitogen.target.agent.event_loop import Peer

MYPY = False
if MYPY:
    from typing import Callable, Dict, List, Optional  # noqa: F401
    from pmitogen.become.types import EscalationPlan  # noqa: F401
    from pmitogen.target.agent.main import Agent  # noqa: F401
    from pmitogen.target.agent.runner_proxy import RunnerProxy  # noqa: F401
    from pmitogen.target.login_state import LoginState  # noqa: F401
    from pmitogen.target.types import Header, StartInfo  # noqa: F401

STATE_LOST_MESSAGE = "the login account's interpreter has lowered its limits or priority, which other accounts must have"
MAX_REAP_POLLS = 60  # of a program whose terminal was closed


class EscalatedStart(object):
    """One escalation that is under way, for one runner."""

    def __init__(self, agent, runner, plan, command, token, preparation, state):
        # type: (Agent, RunnerProxy, EscalationPlan, List[str], str, str, Optional[LoginState]) -> None
        self._agent = agent
        self._runner = runner
        self._loop = agent.loop
        self._tty = self._out = None  # type: Optional[Peer]
        self._released = False
        env = dict((native(name), native(value)) for name, value in state.environ.items()) if state else None
        prepare = state.apply if state else None
        self._escalation = base.Escalation(plan, command, token, env=env, preparation=preparation, prepare=prepare)
        runner.on_released = self.on_released
        runner.last_output = self._escalation.last_output
        runner.wait_for_output = self._wait_for_output
        runner.on_secret = self.on_secret

    def start(self):
        # type: () -> None
        """Start the program. If that fails, the runner's requests are answered with the reason."""
        escalation = self._escalation
        try:
            escalation.start()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        if escalation.tty_fd is not None and escalation.out_fd is not None:
            self._tty = self._listen(escalation.tty_fd, self._on_tty)
            self._out = self._listen(escalation.out_fd, self._on_output)
        self._loop.call_later(base.POLL_INTERVAL, self._poll)

    def _listen(self, fd, on_data):
        # type: (int, Callable[[bytes], None]) -> Peer
        return Peer(self._loop, fd, None, on_data, lambda: on_data(b""), borrowed=True)

    def _advance(self, step):
        # type: (Callable[[], object]) -> None
        """Call *step*, then send the escalation's request for a secret, its answer to a prompt, and its output."""
        if self._released:
            return
        try:
            step()
            request = self._escalation.take_request()
            if request is not None:
                self._agent.send(
                    {"op": "secret-request", "account": self._runner.account, "step": request[0], "kind": request[1]}
                )
            self._write(self._escalation.take_answer())
            rest = self._escalation.take_rest()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        except Exception as exc:  # an error in this code fails this account only
            sys.excepthook(*sys.exc_info())
            self._fail(base.BecomeFailure("other", "internal error: %s" % type(exc).__name__))
            return
        if rest is not None and self._out is not None:
            self._out.out_fd = self._escalation.in_fd
            self._runner.on_ready(self._out, self._agent.starter.bundle())
            if rest:
                self._out.on_data(rest)

    def _write(self, answer):
        # type: (bytes) -> None
        try:
            if answer and self._escalation.tty_fd is not None:
                os.write(self._escalation.tty_fd, answer)
        except OSError:  # the program has ended; its end is reported with the reason
            pass

    def _on_tty(self, data):
        # type: (bytes) -> None
        self._advance(lambda: self._escalation.on_tty(data))

    def _on_output(self, data):
        # type: (bytes) -> None
        self._advance(lambda: self._escalation.on_output(data))

    def on_secret(self, header, body):
        # type: (Header, bytes) -> None
        """Handle the hub's answer to ``secret-request``: the body is the secret, or ``reason`` says why it is withheld."""
        if header.get("reason"):
            self._advance(lambda: self._escalation.withhold(header["reason"]))
        else:
            self._advance(lambda: self._escalation.add_secret(header["step"], header["kind"], body))

    def _poll(self):
        # type: () -> None
        if self._released or self._escalation.running:
            return
        self._advance(self._escalation.poll)
        self._loop.call_later(base.POLL_INTERVAL, self._poll)

    def _fail(self, exc):
        # type: (base.BecomeFailure) -> None
        self._runner.fail("become", exc.message, exc.kind)
        self.on_released()

    def _wait_for_output(self, action):
        # type: (Callable[[], object]) -> None
        """Call *action* when the last output of the command has been read."""
        if self._released or self._escalation.output_complete():
            action()
        else:
            self._loop.call_later(base.POLL_INTERVAL / 5, lambda: self._wait_for_output(action))

    def on_released(self):
        # type: () -> None
        """End the escalation: close the peers, then the descriptors, then collect the program."""
        if self._released:
            return
        self._released = True
        for peer in (self._tty, self._out):
            if peer is not None:
                peer.close()
        self._escalation.close()
        self._reap(MAX_REAP_POLLS)

    def _reap(self, polls_left):
        # type: (int) -> None
        if polls_left and not self._escalation.reap():
            self._loop.call_later(base.POLL_INTERVAL, lambda: self._reap(polls_left - 1))
        elif self._runner.on_exited:
            self._runner.on_exited()


def describe_plan(plan, path):
    # type: (Optional[EscalationPlan], bytes) -> StartInfo
    """Return the programs of a plan, found by *path* (PATH), its accounts, and whether it starts a login shell."""
    start_info = {"programs": [], "users": [], "shell": False}  # type: StartInfo
    while plan is not None:
        for argument in plan["argv"]:
            name = argument.rpartition("/")[2]
            if name in ("dzdo", "sudo", "su", "doas") or name[:5] in ("sudo.", "sudo-") or name[:3] == "su-":
                program = argument.encode("utf-8")
                start_info["programs"].append((terminal.find_program(program, path) or program).decode("utf-8"))
        start_info["users"].append(plan["user"])
        start_info["shell"] = start_info["shell"] or plan["shell"] is not None
        plan = plan["via"]
    return start_info


def start(agent, runner, header, command, env):
    # type: (Agent, RunnerProxy, Header, List[bytes], Dict[bytes, bytes]) -> None
    """Begin to start *runner* in the account of ``header["plan"]``. *env*: variables for that account."""
    state = login_state.read()
    path = state.environ.get(b"PATH", b"") if state is not None else os.environ.get("PATH", "").encode("utf-8")
    start_info = describe_plan(header["plan"], path)
    runner.start_info.update(start_info, users=start_info["users"] + runner.start_info["users"])
    if state is not None and header.get("wraps") and state.is_lost():
        agent.loop.defer(lambda: runner.fail("become", STATE_LOST_MESSAGE, "state"))
        return
    variables = dict((native(name), native(value)) for name, value in env.items())
    preparation = entry.exports(variables) + start_state.SH_SAFE_PATH
    argv = [native(argument) for argument in command] + ["entered"]
    EscalatedStart(agent, runner, header["plan"], argv, header["token"], preparation, state).start()
