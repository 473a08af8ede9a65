"""Compare the results and files of a play over ssh with those over pmitogen, and list the intended differences.

Every field of a result is compared, except fields that differ from run to run over ssh itself: times, process
numbers, temporary names, inode numbers. Intended differences are in ``BY_DESIGN``, each with its topic in the table
of ``docs/differences.md``, which gives the reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ansible import Run, TaskResult

_VARYING = frozenset(
    """start end delta atime mtime ctime inode elapsed started_at date last_modified
    pid child_pid ansible_date_time ansible_uptime_seconds ansible_memory_mb ansible_memfree_mb ansible_swapfree_mb
    ansible_loadavg ansible_mounts ansible_processor_count_now attempts SUDO_COMMAND _ size_available block_available
    block_used inode_available inode_used
    SSH_CONNECTION SSH_CLIENT SSH_TTY XDG_SESSION_ID XDG_RUNTIME_DIR etag""".split()
)

_SETS = frozenset(("ansible_interfaces", "ansible_virtualization_tech_guest", "ansible_virtualization_tech_host"))

# Names that are created anew in each run.
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"ansible-tmp-[\d.]+-\d+-\d+"), "ansible-tmp-N"),
    (re.compile(r"(/var/tmp|/(root|home/[A-Z]+)/\.ansible/tmp)/ansible-tmp-N"), "/TMP/ansible-tmp-N"),
    (re.compile(r"ansible-moduletmp-[\d.]+-\w{8}"), "ansible-moduletmp-N"),
    (re.compile(r"ansible-local-\w+(/\.\w{8}\b)?"), "ansible-local-N"),
    (re.compile(r"j?\d{9,13}\.\d{3,8}"), "JOB"),
    (re.compile(r"/(?:pmitogen/payload\.zip|tmp/ansible_[\w.]+payload_\w+/ansible_[\w.]+payload\.zip)"), "PAYLOAD"),
    (re.compile(r"/proc/\d+/fd/\d+"), "PAYLOAD"),
    (re.compile(r"ansible_[\w.]+payload_\w+/"), "PAYLOAD/"),
    (re.compile(r"(AnsiballZ_\w+)\.py"), r"\1"),
    (re.compile(r"\.ansible_tmp\w+"), ".ansible_tmpN"),
    (re.compile(r"(tmp|ansible\.|prefix_)\w{8}\b"), r"\1N"),
    (re.compile(r"\.\d+\.20\d\d-\d\d-\d\d@\d\d:\d\d:\d\d~"), ".BACKUP~"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"Interrupted at <frame.*"), "Interrupted at FRAME"),
    (re.compile(r"at 0x[0-9a-f]+"), "at 0xN"),
    (re.compile(r'"delta": "[\d:.]+"'), '"delta": "TIME"'),
    (re.compile(r'"(inode|[acm]time)": [\d.]+'), r'"\1": N'),
    (re.compile(r"^\.[a-z0-9_]{8}$"), ".N"),
    (re.compile(r"boundary=\"=+\d+=+\""), "boundary=N"),
    (re.compile(r"Previous line repeated \d+ more"), "Previous line repeated N more"),
    (re.compile(r"Paused for [\d.]+"), "Paused for N"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "TIME"),
    (re.compile(r"port \d{4,5}\b"), "port N"),
    (re.compile(r"Valid booleans include: .*"), "Valid booleans include: all"),
    (re.compile(r"\bsafe_path=(True|False)"), "safe_path=ANY"),  # on purpose: docs/differences.md
)

# In tracebacks: frames of the program that started the module, and source lines, which a module over ssh loses if it ends late.
_FRAMES = re.compile(r'^  File "(?:<stdin>|bundle/[^"]*)".*\n|^    .*\n', re.M)


@dataclass(frozen=True)
class Difference:
    """One field of one result with different values."""

    where: str
    field: str
    ssh: Any
    pmitogen: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.field}\n      ssh:      {_short(self.ssh)}\n      pmitogen: {_short(self.pmitogen)}"


@dataclass(frozen=True)
class Design:
    """Results that differ on purpose. *topic* is the row in docs/differences.md that explains the difference."""

    topic: str
    covers: Callable[[dict[str, Any], dict[str, Any]], bool]  # (result over ssh, result over pmitogen)


_CLOSED = re.compile(r"(Shared connection|Connection) to \S+ closed\.\r?\n?")
_NOT_OURS = re.compile(r"Module remote_tmp|(sftp|scp) transfer mechanism failed")
_REFUSED = re.compile(r"\b(sudo|su|doas) to \S+: ")


def _with_arguments(ssh: dict[str, Any], ours: dict[str, Any]) -> bool:
    text = " ".join(str(ssh.get(name)) for name in ("msg", "module_stderr", "async_result"))
    worked = "not found" not in str(ours.get("msg"))
    return worked and bool(re.search(r"(interpreter \W*|sh: \d+: )/\S+ .*not found", text))


def _not_entered(ssh: dict[str, Any], ours: dict[str, Any]) -> bool:
    return bool(ssh.get("rc", 1) and _REFUSED.search(str(ours.get("msg"))))


def _not_reached(ssh: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Return whether both report an unreachable host; ssh words it differently if it ended before the module was written."""
    output = str(ssh.get("msg"))
    return ("Connection refused" in output or "Data could not be sent" in output) and "Connection refused" in str(ours.get("msg"))


def _ended_by_a_signal(ssh: dict[str, Any], ours: dict[str, Any]) -> bool:
    return "Failed to connect to the host via ssh" in str(ssh.get("msg")) and int(ours.get("rc", 0)) >= 128


def _one_shell_fewer(ssh: dict[str, Any], ours: dict[str, Any]) -> bool:
    return str(ssh.get("stdout")) == f"bash: line 1: {ours.get('stdout')}"


# The other rows of docs/differences.md are in _unify.
BY_DESIGN = (
    Design("interpreters with arguments", _with_arguments),
    Design("accounts that cannot be entered", _not_entered),
    Design("unreachable hosts", _not_reached),
    Design("`raw` ended by a signal", _ended_by_a_signal),
    Design("shells", _one_shell_fewer),
)
UNIFIED = (
    "messages of ssh",
    "terminal of modules",
    "password prompt of become",
    "files of become tasks",
    "sudo's log",
    "file transfer",
)


def _unify(ssh: dict[str, Any], ours: dict[str, Any]) -> None:
    """Remove from both results the parts that differ by design."""
    if _CLOSED.search(str(ssh.get("module_stderr", ""))) and _merged_lines(ssh) == _merged_lines(ours):
        for result in (ssh, ours):
            result.pop("module_stdout", None)
            result.pop("module_stderr", None)
    for name, value in ssh.items():
        if isinstance(value, dict) and isinstance(ours.get(name), dict):
            _unify(value, ours[name])
    for name in ("stderr", "module_stderr"):
        if isinstance(ssh.get(name), str):
            ssh[name] = _CLOSED.sub("", ssh[name])
            ssh.pop(f"{name}_lines", None)
            ours.pop(f"{name}_lines", None)
    if isinstance(ssh.get("stdout"), str) and ssh["stdout"] == "\r\n" + str(ours.get("stdout")):
        for result in (ssh, ours):
            del result["stdout"], result["stdout_lines"]
    for result in (ssh, ours):
        if isinstance(result.get("warnings"), list):
            result["warnings"] = [text for text in result["warnings"] if not _NOT_OURS.search(str(text))]
            if not result["warnings"]:
                del result["warnings"]


def _merged_lines(result: dict[str, Any]) -> list[str]:
    """Return the lines of both streams in one order: over ssh a module has a terminal, where both streams are one."""
    text = str(result.get("module_stdout", "")) + "\n" + _CLOSED.sub("", str(result.get("module_stderr", "")))
    return sorted(line for line in text.replace("\r\n", "\n").split("\n") if line)


def _differs_by_design(ssh: Any, ours: Any) -> bool:
    """Return whether two results differ by design as a whole; remove items of a loop that do from the loop's results."""
    if not (isinstance(ssh, dict) and isinstance(ours, dict)):
        return False
    if any(design.covers(ssh, ours) for design in BY_DESIGN):
        return True
    _unify(ssh, ours)
    pairs = list(zip(ssh.get("results") or (), ours.get("results") or (), strict=False))
    if not all(isinstance(item, dict) for pair in pairs for item in pair):
        return False
    excused = [_differs_by_design(*pair) for pair in pairs]
    if any(excused):
        for result in (ssh, ours):
            result["results"] = [item for item, out in zip(result["results"], excused, strict=True) if not out]
            for name in ("msg", "changed", "failed", "unreachable", "exception"):
                result.pop(name, None)
    return any(excused) and not ssh["results"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return repr(text) if len(text) < 400 else f"{text[:300]!r}...{text[-60:]!r} ({len(text)} characters)"


def simplify(value: Any, places: Sequence[tuple[str, str]]) -> Any:
    """Return *value* without parts that vary from run to run; *places* are further (text, replacement) pairs."""
    if isinstance(value, dict):
        varying = _VARYING | {"version"} if "inode" in value else _VARYING
        named = {str(key): simplify(item, places) for key, item in value.items() if key not in varying}
        if isinstance(named.get("_ansible_delegated_vars"), dict):
            for name in ("connection", "host", "port", "user"):
                named["_ansible_delegated_vars"].pop(f"ansible_{name}", None)
        for name in _SETS & named.keys():
            named[name] = sorted(named[name])
        return named
    if isinstance(value, list):
        return [simplify(item, places) for item in value]
    if isinstance(value, str):
        for text, name in places:
            value = value.replace(text, name)
        for pattern, name in _NAMES:
            value = pattern.sub(name, value)
        if "Traceback" in value:
            value = _FRAMES.sub("", value)
    return value


def _differences(where: str, field: str, ssh: Any, ours: Any) -> Iterator[Difference]:
    if isinstance(ssh, dict) and isinstance(ours, dict):
        for key in sorted(ssh.keys() | ours.keys()):
            name = f"{field}.{key}" if field else key
            if key not in ssh or key not in ours:
                yield Difference(where, name, ssh.get(key, "(absent)"), ours.get(key, "(absent)"))
            else:
                yield from _differences(where, name, ssh[key], ours[key])
    elif (
        isinstance(ssh, list) and isinstance(ours, list) and len(ssh) == len(ours) and any(isinstance(item, dict) for item in ssh)
    ):
        for index, (left, right) in enumerate(zip(ssh, ours, strict=True)):
            yield from _differences(where, f"{field}.{index}", left, right)
    elif ssh != ours and not (ssh != ssh and ours != ours):  # NaN is not equal to itself
        yield Difference(where, field, ssh, ours)


def _keyed(tasks: Sequence[TaskResult]) -> dict[tuple[str, str, int], TaskResult]:
    """Results by (host, name of the task, repetition), because the order among hosts is random."""
    seen: Counter[tuple[str, str]] = Counter()
    keyed = {}
    for task in tasks:
        key = (task.host, task.task)
        keyed[(*key, seen[key])] = task
        seen[key] += 1
    return keyed


def compare(
    ssh: Run, ours: Run, ssh_places: Sequence[tuple[str, str]], our_places: Sequence[tuple[str, str]]
) -> list[Difference]:
    """All differences between two runs of one playbook."""
    found: list[Difference] = []
    excused: set[tuple[str, str]] = set()
    left, right = _keyed([*ssh.tasks, *ssh.items]), _keyed([*ours.tasks, *ours.items])
    for key in [*left, *(key for key in right if key not in left)]:
        where = f"{key[1]} [{key[0]}]" + (f" #{key[2]}" if key[2] else "")
        one, other = left.get(key), right.get(key)
        if one is None or other is None:
            if key[:2] in excused:
                continue  # before 2.19, a connection failure ends a loop
            found.append(
                Difference(where, "(result)", "absent" if one is None else one.kind, "absent" if other is None else other.kind)
            )
            continue
        pair = simplify(one.result, ssh_places), simplify(other.result, our_places)
        items = len(pair[0].get("results") or ())
        if _differs_by_design(*pair):
            excused.add(key[:2])
            continue
        if items == len(pair[0].get("results") or ()):
            found += _differences(where, "(kind)", one.kind, other.kind)
        else:
            excused.add(key[:2])
        found += _differences(where, "", *pair)
    if not excused:
        found += _differences("the end", "stats", ssh.stats, ours.stats)
    found += _differences("the end", "exit code", ssh.rc, ours.rc)
    warned = _warnings(ssh, ssh_places), _warnings(ours, our_places)
    if not (excused and set(warned[0]) <= set(warned[1])):
        found += _differences("the end", "warnings", *warned)
    return found


def _warnings(run: Run, places: Sequence[tuple[str, str]]) -> list[str]:
    return sorted({text for text in simplify(run.warnings, places) if not _NOT_OURS.search(text)})


def compare_trees(ssh: dict[str, Any], ours: dict[str, Any], names: Callable[[str], str]) -> list[Difference]:
    """All differences between two snapshots."""
    left, right = ({names(path): entry for path, entry in tree.items()} for tree in (ssh, ours))
    return list(_differences("files", "", left, right))


def plain_name(path: str) -> str:
    """The name of a file without parts that vary from run to run."""
    return str(simplify(path, ()))


def documented(text: Path) -> set[str]:
    """The topics of the first table of docs/differences.md."""
    table = re.search(r"^\| topic \|.*\n\| *-.*\n((?:\|.*\n)+)", text.read_text(), re.M)
    assert table is not None
    return {row.split("|")[1].strip() for row in table[1].splitlines()}
