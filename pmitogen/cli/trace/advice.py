"""Advice on how to make a run faster: a few rules with thresholds, applied to its timeline. They do not read the playbook."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pmitogen.cli.trace.events import Work
from pmitogen.cli.trace.timeline import Timeline, median

MOST_NAMED = 3  # tasks or hosts in one sentence
NOTHING = "Nothing stands out: the time is spread over tasks and stages."

# Step of a login -> seconds from which on it is slow, and what to look at.
_SLOW_STEPS = {
    "resolve": (0.5, "the name lookup; check the resolver, or set ansible_host to an address"),
    "tcp": (1.0, "the TCP connection; the network drops packets, or the host is overloaded"),
    "proxy": (2.0, "the jump host or the ProxyCommand; pmitogen ping to the jump host alone tells more"),
    "version": (1.0, "the server's version; the host is overloaded, or its sshd looks up the client's name (UseDNS)"),
    "kex": (1.0, "the key exchange; the host is slow or overloaded"),
    "auth": (1.0, "the authentication; often the server's reverse lookup (UseDNS), its directory service or a PAM module"),
    "channel": (1.0, "the session; the server's PAM modules open it, and some of them are slow"),
    "python": (2.0, "the start of Python; often a start-up file of the login shell"),
}


def advise(timeline: Timeline) -> list[str]:
    """Return the advice as sentences, the most important first; NOTHING if no rule applies."""
    sentences = [text for rule in _RULES for text in rule(timeline)] if timeline.works else []
    return sentences or [NOTHING]


def _between(timeline: Timeline) -> Iterator[str]:
    if timeline.between > 1 and timeline.between > 0.3 * timeline.seconds:
        yield (
            f"Ansible itself took {timeline.between:.1f} s of {timeline.seconds:.1f} s, between the tasks. Fewer tasks, fewer"
            " included files and fewer callbacks shorten that; the connection cannot."
        )


def _modules(timeline: Timeline) -> Iterator[str]:
    totals = timeline.totals()
    if totals["module"] > 1 and totals["module"] > 0.5 * sum(totals.values()):
        names = _slowest(timeline, lambda work: work.seconds["module"])
        yield f"Most of the time the modules themselves ran: {names}. Look at what these do on the hosts."


def _network(timeline: Timeline) -> Iterator[str]:
    totals, trips = timeline.totals(), sum(len(work.requests) for work in timeline.works)
    each = median(work.seconds["wire"] / len(work.requests) for work in timeline.works if work.requests)
    if each > 0.02 and totals["wire"] > 0.3 * sum(totals.values()):
        text = f"The network: {trips} round trips of about {each * 1000:.0f} ms."
        loops = sorted(timeline.tasks(), key=lambda works: -max(len(work.requests) for work in works))[:MOST_NAMED]
        many = [f"{_name(works)} ({count})" for works in loops if (count := max(len(work.requests) for work in works)) > 3]
        if many:
            text += f" Most for one host: {', '.join(many)}. A loop makes one for each item: give the module the whole list."
        yield text


def _logins(timeline: Timeline) -> Iterator[str]:
    slow = {}
    for step, (limit, cause) in _SLOW_STEPS.items():
        taken = [span.seconds for steps in timeline.logins.values() for span in steps if span.name == step]
        if median(taken) > limit:
            slow[step] = f"Logging in is slow: a median of {median(taken):.1f} s for {cause}."
    yield from slow.values()
    waited = sum(max((work.seconds["connect"] for work in works), default=0.0) for works in timeline.by_host().values())
    if not slow and waited > 1 and waited > 0.3 * sum(timeline.totals().values()):
        yield (
            "Much of the time was spent on logging in, once for each host. ControlPersist in ansible_ssh_args keeps the"
            " connections for a later run."
        )


def _forks(timeline: Timeline) -> Iterator[str]:
    hosts, most = len(timeline.by_host()), timeline.max_parallel
    if hosts > most and timeline.seconds > 1:
        yield f"At most {most} of {hosts} hosts were worked on at the same time: raise forks (--forks, or ansible.cfg)."


def _uneven(timeline: Timeline) -> Iterator[str]:
    waits = timeline.waited()
    if len(waits) > 1 and median(waits.values()) > 0.3 * timeline.seconds and timeline.seconds > 1:
        last = [max(works, key=lambda work: work.end).host for works in timeline.tasks()]
        slowest = sorted(set(last), key=lambda host: -last.count(host))[:MOST_NAMED]
        yield (
            f"Hosts waited for slower ones, a median of {median(waits.values()):.1f} s. Most often last: {', '.join(slowest)}."
            " strategy: free lets each go on by itself."
        )


def _bytes(timeline: Timeline) -> Iterator[str]:
    large = [works for works in timeline.tasks() if sum(work.sent + work.received for work in works) > 50e6]
    if large:
        moved = sorted(large, key=lambda works: -sum(work.sent + work.received for work in works))[:MOST_NAMED]
        yield (
            f"Large transfers: {', '.join(_name(works) for works in moved)}. Have the hosts fetch such files themselves, or"
            " compress them once."
        )


_RULES: tuple[Callable[[Timeline], Iterator[str]], ...] = (_between, _modules, _network, _logins, _forks, _uneven, _bytes)


def _slowest(timeline: Timeline, measure: Callable[[Work], float]) -> str:
    slowest = [(max(works, key=measure), works) for works in timeline.tasks()]
    slowest.sort(key=lambda pair: -measure(pair[0]))
    return ", ".join(
        f"{_name(works)} ({measure(worst):.1f} s on {worst.host})"
        for worst, works in slowest[:MOST_NAMED]
        if measure(worst) > 0.1
    )


def _name(works: list[Work]) -> str:
    return f"'{works[0].task}'"
