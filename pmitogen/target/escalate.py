"""A runner in another account: an escalation (see pmitogen/become/base.py), driven by the agent's I/O loop.

The loop reads the terminal and the program's stdout as two Mitogen streams and looks in every ``POLL_INTERVAL`` until the
runner is up; from then on its stdout (and stdin) are the runner's stream, and the terminal is drained. The escalation owns
the descriptors; the streams only borrow them.
"""

import os
import time

import mitogen.core
from pmitogen.become import base

POLLS_AFTER_CLOSE = 60  # looks at a program that was hung up, before it is nobody's concern


class Ticker(object):
    """Timers for the child's broker, which has none: what Broker asks of ``timers``, and no more."""

    def __init__(self):
        self._due = []

    def later(self, seconds, work):
        self._due.append((time.time() + seconds, work))

    def get_timeout(self):
        return max(0, min(when for when, _ in self._due) - time.time()) if self._due else None

    def expire(self):
        now = time.time()
        ready = [work for when, work in self._due if when <= now]
        self._due = [item for item in self._due if item[0] > now]
        for work in ready:
            work()


class Borrowed(object):
    """A descriptor as the file object that Mitogen wants; closing it is its owner's business."""

    def __init__(self, fd):
        self._fd = fd

    def fileno(self):
        return self._fd

    def close(self):
        pass


class Events(mitogen.core.Protocol):
    """Bytes of one descriptor, for a callback; b'' is the end."""

    def __init__(self, on_data):
        self._on_data = on_data

    def on_receive(self, broker, buf):
        self._on_data(buf)

    def on_disconnect(self, broker):
        mitogen.core.Protocol.on_disconnect(self, broker)
        self._on_data(b'')


class Start(object):
    """One escalation under way, for one runner."""

    def __init__(self, agent, runner, plan, command, token):
        self._agent = agent
        self._runner = runner
        self._broker = agent.broker
        if not isinstance(self._broker.timers, Ticker):
            self._broker.timers = Ticker()
        self._ticker = self._broker.timers
        self._over = False
        self._escalation = base.Escalation(plan, command, token)
        runner.release = self.release
        runner.said = self._escalation.said
        runner.settle = self._settle

    def begin(self):
        """Start the program. What fails is told to whoever waits for the runner."""
        escalation = self._escalation
        try:
            escalation.start()
        except base.BecomeFailure as exc:
            self._fail(exc)
            return
        self._tty = self._listen(escalation.tty_fd, self._on_tty, 'tty')
        self._out = self._listen(escalation.out_fd, self._on_output, 'out')
        self._ticker.later(base.POLL_INTERVAL, self._poll)

    def _listen(self, fd, on_data, name):
        stream = mitogen.core.Stream()
        stream.name = 'become.%s.%d' % (name, self._runner.acct)
        stream.set_protocol(Events(on_data))
        stream.receive_side = stream.transmit_side = mitogen.core.Side(stream, Borrowed(fd))
        self._broker.start_receive(stream)
        return stream

    def _guarded(self, step, *args):
        if self._over:
            return None
        try:
            return step(*args)
        except base.BecomeFailure as exc:
            self._fail(exc)
            return None

    def _on_tty(self, data):
        self._answer(self._guarded(self._escalation.on_tty, data))

    def _answer(self, words):
        for word in words or ():
            os.write(self._escalation.tty_fd, word)

    def _on_output(self, data):
        rest = self._guarded(self._escalation.on_output, data)
        if rest is not None and not self._over:
            stream = self._out
            stream.transmit_side = mitogen.core.Side(stream, Borrowed(self._escalation.in_fd))
            self._runner.up(stream, self._agent.bundle())
            if rest:
                stream.protocol.on_receive(self._broker, rest)

    def _poll(self):
        if self._over or self._escalation.up:
            return
        self._answer(self._guarded(self._escalation.poll))
        self._ticker.later(base.POLL_INTERVAL, self._poll)

    def _fail(self, exc):
        self._runner.fail('become', exc.message, exc.kind)
        self.release()

    def _settle(self, then):
        """Do *then* once the command's last words are here."""
        if self._over or self._escalation.settled():
            then()
        else:
            self._ticker.later(base.POLL_INTERVAL / 5, lambda: self._settle(then))

    def release(self):
        """End it: forget the descriptors, then close them, then collect the program."""
        if self._over:
            return
        self._over = True
        for stream in (getattr(self, '_tty', None), getattr(self, '_out', None)):
            if stream is not None and not stream.receive_side.closed:
                stream.on_disconnect(self._broker)
        self._escalation.close()
        self._reap(POLLS_AFTER_CLOSE)

    def _reap(self, looks):
        if looks and not self._escalation.reap():
            self._ticker.later(base.POLL_INTERVAL, lambda: self._reap(looks - 1))
        elif self._runner.left:
            self._runner.left()


def start(agent, runner, header, command):
    """Begin to start *runner* in the account that ``header['plan']`` leads to. On the I/O thread; does not wait."""
    native = [word if isinstance(word, str) else word.decode('utf-8') for word in command]
    Start(agent, runner, header['plan'], native, header['token']).begin()
