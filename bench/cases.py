"""The cases to play. A case is a list of steps, hosts to play them on, and latency; the plays are written from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Step = Mapping[str, Any]

BIG_FILE = 256 << 20  # bytes
ROUND_TRIP = 0.180  # seconds, of the cases with latency
HOSTNAMES = 100  # commands in one play
ITEMS = 100  # of a loop
HOSTS = 50
SMALL_FILES = 100


@dataclass(frozen=True)
class Case:
    """One row of the table.

    *repeat* and *quick*: the number of runs of each contender, normally and with --quick. *delay*: seconds added to each
    direction. *traffic*: whether bytes and direction changes are counted in a run of their own. *own_steps*: the steps for
    pmitogen, where they are others. *traced*: whether one more run measures the layers. *contenders*: only these play it.
    """

    name: str
    title: str
    steps: Sequence[Step]
    hosts: int = 1
    forks: int = 5
    delay: float = 0.0
    repeat: int = 5
    quick: int = 1
    traffic: bool = True
    big_file: bool = False
    small_files: bool = False
    own_steps: Sequence[Step] = ()
    traced: bool = False
    contenders: Sequence[str] = ()

    def play(self, own: bool = False) -> str:
        """The playbook, as JSON, which is YAML. *own*: as pmitogen's users would write it."""
        steps = [{"name": f"step {index}", **step} for index, step in enumerate(own and self.own_steps or self.steps)]
        return json.dumps([{"hosts": "all", "gather_facts": False, "tasks": steps}])

    def baseline(self) -> str:
        """The same play with debug in the place of each step: what Ansible costs alone."""
        steps = [{"name": f"step {index}", "ansible.builtin.debug": {"msg": "x"}} for index in range(len(self.steps))]
        return json.dumps([{"hosts": "all", "gather_facts": False, "tasks": steps}])


def _b(module: str, become: bool = False, **options: Any) -> Step:
    return {f"ansible.builtin.{module}": options, **({"become": True} if become else {})}


_HOSTNAME = _b("command", cmd="hostname")

# Eleven steps of an ordinary playbook: facts, files of the login account, and the same as root.
_MIX = [
    _b("setup"),
    _b("file", path="{{ work }}", state="directory", mode="0755"),
    _b("copy", content="some text\n", dest="{{ work }}/copied", mode="0644"),
    _b("template", src="page.j2", dest="{{ work }}/page", mode="0644"),
    _b("lineinfile", path="{{ work }}/copied", line="another line"),
    _b("stat", path="{{ work }}/copied"),
    _b("command", cmd="id -un"),
    _b("command", become=True, cmd="id -un"),
    _b("copy", become=True, content="root's text\n", dest="{{ work }}/roots", mode="0600"),
    _b("lineinfile", become=True, path="{{ work }}/roots", line="another line"),
    _b("file", become=True, path="{{ work }}/roots", state="absent"),
]

_TEN = [
    _b("command", cmd="hostname"),
    _b("file", path="{{ work }}", state="directory", mode="0755"),
    _b("copy", content="some text\n", dest="{{ work }}/copied", mode="0644"),
    _b("stat", path="{{ work }}/copied"),
    _b("lineinfile", path="{{ work }}/copied", line="another line"),
    _b("template", src="page.j2", dest="{{ work }}/page", mode="0644"),
    _b("command", cmd="id -un"),
    _b("slurp", src="{{ work }}/copied"),
    _b("command", become=True, cmd="id -un"),
    _b("file", path="{{ work }}", state="absent"),
]

_LOOP = [_HOSTNAME, {**_b("command", cmd="echo {{ item }}"), "loop": f"{{{{ range({ITEMS}) | list }}}}"}]
_OWN_LOOP = [
    _HOSTNAME,
    {
        "pmitogen.core.loop": {
            "module": "ansible.builtin.command",
            "args": {"cmd": "echo {{ item }}"},
            "items": f"{{{{ range({ITEMS}) | list }}}}",
        }
    },
]
_FAR = ROUND_TRIP / 2

CASES = (
    Case("hostname", f"{HOSTNAMES} x command: hostname", [_HOSTNAME] * HOSTNAMES, repeat=3, traced=True),
    Case("mix-far", "mix of 11 steps, 180 ms round trip", _MIX, delay=_FAR, repeat=3, traced=True),
    Case("mix", "mix of 11 steps, no latency", _MIX, quick=2, traced=True),
    Case("hosts", f"{HOSTS} hosts x 10 steps, forks 20", _TEN, hosts=HOSTS, forks=20, repeat=3),
    Case(
        "copy",
        "copy of a 256 MiB file",
        [_b("copy", src="big", dest="{{ work }}.big", mode="0600")],
        repeat=3,
        traffic=False,
        big_file=True,
    ),
    Case(
        "fetch",
        "fetch of a 256 MiB file",
        [_b("fetch", src="{{ big }}", dest="fetched", flat=True)],
        repeat=3,
        traffic=False,
        big_file=True,
    ),
    Case("cold", "one command, cold", [_HOSTNAME], repeat=9, quick=3),
    Case("cold-far", "one command, cold, 180 ms round trip", [_HOSTNAME], delay=_FAR, repeat=3),
    Case("loop", f"loop of {ITEMS} items", _LOOP, own_steps=_OWN_LOOP, repeat=3, traffic=False, traced=True),
    Case(
        "loop-far",
        f"loop of {ITEMS} items, 180 ms round trip",
        _LOOP,
        own_steps=_OWN_LOOP,
        delay=_FAR,
        repeat=3,
        contenders=("mitogen", "pmitogen", "baseline"),
    ),
    Case("facts", "facts of one host", [_b("setup")], quick=2, traced=True),
    Case(
        "small-files",
        f"copy of a directory with {SMALL_FILES} small files",
        [_b("copy", src="small/", dest="{{ work }}", mode="0600")],
        repeat=2,
        traffic=False,
        small_files=True,
    ),
)
