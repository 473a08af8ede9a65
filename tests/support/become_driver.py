"""Run one Escalation to its end, as the agent's loop would: ``pythonX become_driver.py``, for Python 2.7 and every 3.x.

NOTE: this is a program, not a module; it runs under the Pythons of targets. It reads one JSON object on stdin (keys: ``root``,
the project's directory; ``uid``, ``gid``, ``name`` of the account; ``plan``; ``secrets`` by kind; ``command``; ``token``;
``env``; ``size``, bytes of binary data to send through the command and back) and prints one on stdout.
"""

from __future__ import absolute_import

import json
import os
import select
import sys
import time
import types


def load(root):
    package = types.ModuleType("pmitogen")  # pmitogen/__init__.py does not support Python 2.7
    package.__path__ = [os.path.join(root, "pmitogen")]
    sys.modules["pmitogen"] = package
    sys.dont_write_bytecode = True
    from pmitogen.become import escalation as base

    return base


def drop(job):
    """Switch to the account. Its stdlib may then be unreadable (a Python in root's home), so load modules that load late now."""
    import gettext  # noqa: F401
    import locale  # noqa: F401

    for name in ("ascii", "utf-8"):
        b"".decode(name)
        "".encode(name)
    os.initgroups(job["name"], job["gid"])
    os.setgid(job["gid"])
    os.setuid(job["uid"])


def write(fd, data):
    """Write as much as fits; return the rest."""
    try:
        return data[os.write(fd, data) :]
    except OSError:
        return data


def run_once(e, read, seen, secrets, delay):
    """Run the loop once: return the output after the marker if the command has started, else None.

    Secrets are sent *delay* seconds late.
    """
    fds = [fd for fd in (e.tty_fd, e.out_fd) if fd not in seen]
    ready = select.select(fds, [], [], 0.05)[0]
    for fd in ready:
        data = read(fd)
        if data == b"":
            seen.add(fd)
        if data is None or e.running:
            continue
        if fd == e.tty_fd:
            e.on_tty(data)
        else:
            e.on_output(data)
    e.poll()
    request = e.take_request()
    if request is not None:
        time.sleep(delay)
        e.add_secret(request[0], request[1], secrets[request[1]])
    answer = e.take_answer()
    assert not answer or not write(e.tty_fd, answer)
    return e.take_rest()


def exchange(e, read, size, got):
    """Send *size* bytes and read them back; read the terminal meanwhile."""
    block = bytes(bytearray(range(256)))
    wanted, view = block * (size // 256), bytearray(got)
    sent = noise = 0
    until = time.time() + 30
    while len(view) < size and time.time() < until:
        readable, writable, _ = select.select([e.tty_fd, e.out_fd], [e.in_fd] if sent < size else [], [], 1)
        if writable:
            part = wanted[sent : sent + 65536]
            sent += len(part) - len(write(e.in_fd, part))
        if e.out_fd in readable:
            view += read(e.out_fd) or b""
        if e.tty_fd in readable:
            noise += len(read(e.tty_fd) or b"")
    return bytes(view) == wanted, noise


def main():
    job = json.loads(sys.stdin.read())
    base = load(job["root"])
    from pmitogen.become import terminal

    os.dup(2)  # programs inherit this descriptor under Python 2.7
    drop(job)
    os.chdir(job.get("cwd", "/"))
    env = dict((base.native(k), base.native(v)) for k, v in job["env"].items())
    os.environ.clear()
    os.environ.update(env)
    started = time.time()
    result = {"up": False, "kind": None, "message": None}
    e = base.Escalation(job["plan"], job["command"], job["token"])
    try:
        e.start()
        rest, seen = None, set()
        while rest is None:
            rest = run_once(e, terminal.read_some, seen, job["secrets"], job.get("delay", 0))
        result["up"] = True
        result["seconds"] = time.time() - started
        line = b""
        if job.get("size"):
            result["same"], result["noise"] = exchange(e, terminal.read_some, job["size"], rest)
        else:
            line = rest
            while not line.endswith(b"\n") and time.time() - started < 20:
                select.select([e.out_fd], [], [], 1)
                line += terminal.read_some(e.out_fd) or b""
            result["line"] = line.decode("utf-8").strip()
            while not e.output_complete():
                select.select([e.tty_fd], [], [], 0.01)
                data = terminal.read_some(e.tty_fd)
                if data is not None:
                    e.on_tty(data)
            result["said"] = e.last_output()
    except base.BecomeFailure as failure:
        result.update(kind=failure.kind, message=failure.message)
    result.setdefault("seconds", time.time() - started)
    result["repr"] = repr(e)
    e.close()
    until = time.time() + 6
    while not e.reap() and time.time() < until:
        time.sleep(0.02)
    result["reaped"] = e.reap()
    result["end"] = time.time() - started
    # Python 2.7 holds /dev/urandom open.
    links = [(int(n), "/proc/self/fd/" + n) for n in os.listdir("/proc/self/fd")]
    result["fds"] = sorted(n for n, link in links if os.path.exists(link) and os.readlink(link) != "/dev/urandom")
    print(json.dumps(result))


main()
