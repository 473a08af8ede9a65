"""The action ``pmitogen.core.loop`` registers the same as Ansible's ``loop``, without a round trip for each item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from bench.environment import Relay
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

LOOP = "pmitogen.core.loop"
_B = "ansible.builtin."
VARYING = {"start", "end", "delta", "atime", "mtime", "ctime", "inode", "src", "exception", "dev", "_original_basename"}


@pytest.fixture(autouse=True)
def _needs_newer_core(ansible: Ansible) -> None:
    if ansible.release < (2, 19):
        pytest.skip("pmitogen.core.loop needs ansible-core 2.19")


# (title, module, arguments, items, keywords of the task)
CASES: list[tuple[str, str, dict[str, Any], Any, dict[str, Any]]] = [
    ("numbers", "command", {"cmd": "echo {{ item }}"}, "{{ range(4) | list }}", {}),
    ("dictionaries", "file", {"path": "{{ work }}/{{ item.n }}", "state": "touch", "mode": "{{ item.m }}"},
     [{"n": "a", "m": "0600"}, {"n": "b", "m": "0644"}, {"n": "a", "m": "0600"}], {"loop_control": {"label": "{{ item.n }}"}}),
    ("names", "command", {"cmd": "echo {{ it }} {{ at }} {{ ansible_loop.last }}"}, ["x", "y", "z"],
     {"loop_control": {"loop_var": "it", "index_var": "at", "extended": True}}),
    ("some fail", "command", {"cmd": "test {{ item }} = a"}, ["a", "b", "a"], {"ignore_errors": True}),
    ("an argument is undefined", "command", {"cmd": "echo {{ item.is }}"}, [{"is": 1}, {}, {"is": 3}], {"ignore_errors": True}),
    ("a parameter is wrong", "file", {"path": "{{ work }}/a", "state": "{{ item }}"}, ["file", "x", "file"],
     {"ignore_errors": True}),
    ("order", "shell", {"cmd": "wc -l < {{ work }}/order; echo {{ item }} >> {{ work }}/order"}, "{{ range(5) | list }}", {}),
    ("check and diff", "lineinfile", {"path": "{{ work }}/order", "line": "{{ item }}"}, ["1", "one"],
     {"check_mode": True, "diff": True}),
    ("all are skipped", "command", {"cmd": "true {{ item }}"}, [1, 2], {"check_mode": True}),
    ("become", "command", {"cmd": "id -un {{ item }}"}, ["root", "root", "nobody"], {"become": True}),
    ("an action plugin", "copy", {"content": "{{ item }}\n", "dest": "{{ work }}/c{{ item }}"}, [1, 2, 3], {}),
    ("nothing", "command", {"cmd": "echo {{ item }}"}, [], {}),
    ("variables", "shell", {"cmd": "echo $NAME {{ twice }}"}, [1, 2],
     {"vars": {"twice": "{{ item * 2 }}"}, "environment": {"NAME": "x"}}),
    ("defaults", "command", {"cmd": "pwd"}, [1, 2], {"module_defaults": {_B + "command": {"chdir": "{{ work }}"}}}),
    ("no log", "command", {"cmd": "echo {{ item }}"}, ["hidden one", "hidden two"], {"no_log": True}),
    ("text", "command", {"argv": ["echo", "{{ item }}"]}, ["ä 'q' \"q\" {{'{{'}} $x", "", "a\nb", "x" * 70000], {}),
    ("output", "shell", {"cmd": "head -c {{ item }} /dev/zero | tr '\\0' x"}, [10, 300000, 20, 5], {}),
]  # fmt: skip


def _tasks(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Each case by ``loop`` and then by the action, each followed by a task that shows the registered value."""
    clean: list[dict[str, Any]] = [
        {_B + "file": {"path": "{{ work }}", "state": "absent"}},
        {_B + "file": {"path": "{{ work }}", "state": "directory"}},
        {_B + "copy": {"content": "one\n", "dest": "{{ work }}/order"}},
    ]
    tasks: list[dict[str, Any]] = []
    for way in ("loop", "action"):
        tasks += clean
        for number in numbers:
            title, module, args, items, keywords = CASES[number]
            task: dict[str, Any] = {"name": f"{way}: {title}", "register": f"r{number}", **keywords}
            if way == "loop":
                task.update({_B + module: args, "loop": items})
            else:
                task[LOOP] = {"module": _B + module, "args": args, "items": items}
            tasks += [task, {"name": f"{way} registered: {title}", _B + "debug": {"var": f"r{number}"}}]
    return tasks


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):  # ansible-core 2.19 omits some that are false
        left_out = VARYING | {name for name in ("failed", "skipped") if value.get(name) is False}
        return {name: _plain(item) for name, item in value.items() if name not in left_out}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _registered(run: Run, way: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = _plain(run.task(f"{way} registered: {CASES[number][0]}").result[f"r{number}"])
    return found


def _is_like(ours: dict[str, Any], loops: dict[str, Any], title: str) -> None:
    if title == "check and diff":  # shown by Ansible for the task, not for its items
        assert ours.pop("diff") == [each for result in loops["results"] for each in result["diff"]]
    for of_ours, of_loop in zip(ours["results"], loops["results"], strict=True):
        if title == "an argument is undefined" and of_loop.get("failed"):
            assert "has no attribute 'is'" in of_ours.pop("msg") and "has no attribute 'is'" in of_loop.pop("msg")
        for each in (of_ours, of_loop):  # those of the items are the task's
            each.pop("warnings", None), each.pop("deprecations", None)
    for each in (ours, loops):
        each.pop("warnings", None), each.pop("deprecations", None)
    if "skip_reason" not in loops and ours.get("skip_reason") == ours.get("skipped_reason"):
        ours.pop("skip_reason", None)  # before ansible-core 2.21, loop uses another name for it
    assert list(_differences(ours, loops, title)) == []


def _differences(ours: Any, loops: Any, where: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(loops, dict):
        for name in {**ours, **loops}:
            yield from _differences(ours.get(name, "nothing"), loops.get(name, "nothing"), f"{where}: {name}")
    elif isinstance(ours, list) and isinstance(loops, list) and len(ours) == len(loops):
        for index, (one, other) in enumerate(zip(ours, loops, strict=True)):
            yield from _differences(one, other, f"{where}: {index}")
    elif ours != loops:
        yield f"{where}: {ours!r}, by loop {loops!r}"


def _compare(run: Run, numbers: Iterable[int]) -> None:
    assert run.rc == 0, run.output
    for number in numbers:
        ours, loops = (_registered(run, way, number) for way in ("action", "loop"))
        _is_like(ours, loops, CASES[number][0])


@pytest.mark.newest_core
def test_registers_the_same_as_loop(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    if tuple(map(int, ansible.core.split("."))) < (2, 19):
        run = ansible.tasks([{LOOP: {"module": "ping", "items": [1]}}], {"web": {}}, connection="local")
        assert run.tasks[0]["msg"] == "pmitogen.core.loop: needs ansible-core 2.19 or later; use loop"
        return
    variables = ansible.target(sshd, account, work=f"{account.home}/work")
    run = ansible.tasks(_tasks(range(len(CASES))), {"web": variables}, args=["-vvv"])
    _compare(run, range(len(CASES)))
    shown = run.stdout.partition("TASK [action: no log]")[2].partition("TASK [")[0]
    assert "EXEC ansible" in shown and "hidden one" not in shown + run.stderr
    assert "failed: [web] (item=b): " in run.stderr
    assert "ok: [web] (item=b)" in run.stdout or "changed: [web] (item=b)" in run.stdout  # the label, not the item


@pytest.mark.one_core
@pytest.mark.parametrize(
    ("connection", "numbers"),
    [
        ("local", [3]),
        pytest.param(
            "ssh", range(len(CASES)), marks=[pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.needs_program("ssh")]
        ),
    ],
)
def test_works_over_another_connection(
    connection: str, numbers: Iterable[int], ansible: Ansible, sshd: Sshd, account: Account
) -> None:
    target = ansible.target(sshd, account) if connection == "ssh" else {}
    variables = {**target, "work": f"{account.home}/work"}
    play = [{"hosts": "all", "gather_facts": False, "tasks": _tasks(numbers)}]
    run = ansible.start(play, {"web": variables}, connection=connection, env={"ANSIBLE_PIPELINING": "1"}).finish(350)
    _compare(run, numbers)


MOST_CHANGES_TO_CONNECT = 12


@pytest.mark.optimised
@pytest.mark.one_core
def test_all_items_take_two_round_trips(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """One for the first item and one for all others."""
    relay = Relay([sshd.host], sshd.port, 0.5)  # slow enough for all items to be sent before the first answer arrives
    try:
        plain = ansible.target(sshd, account)
        options = f"{plain['ansible_ssh_common_args']} -o HostKeyAlias=[{sshd.host}]:{sshd.port}"
        variables = {**plain, "ansible_port": relay.port, "ansible_ssh_common_args": options}
        items = {"module": _B + "command", "args": {"cmd": "echo {{ item }}"}, "items": "{{ range(6) | list }}"}
        run = ansible.tasks([{LOOP: items}], {"web": variables}).check()
        assert len(run.tasks[-1]["results"]) == 6
        assert relay.counts()["direction_changes"] <= MOST_CHANGES_TO_CONNECT + 2 * 2 + 2  # one more where the machine is slow
    finally:
        relay.close()


MARKS = """\
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("say",))

    def run(self, tmp=None, task_vars=None):
        said = self._task.args["say"]
        return {"changed": True, "failed": "fails" in said, "said": said, "msg": said, "_ansible_no_log": "hidden" in said}
"""


@pytest.mark.newest_core
def test_results_that_an_action_plugin_censors_are_hidden_as_by_loop(ansible: Ansible) -> None:
    action = {"module": "marks", "args": {"say": "{{ item }}"}}
    tasks: list[dict[str, Any]] = []
    for number, items in enumerate((["plain 1", "hidden 1", "plain 1 fails"], ["plain 2", "plain 2 fails"])):
        tasks += [
            {"name": f"loop {number}", "marks": {"say": "{{ item }}"}, "loop": items, "ignore_errors": True},
            {"name": f"action {number}", LOOP: {**action, "items": items}, "ignore_errors": True},
        ]
    tasks += [{"name": "failed", LOOP: {**action, "items": ["hidden 3 fails"]}, "ignore_errors": True}]  # loop shows its message
    run = ansible.tasks(tasks, {"web": {}}, connection="local", args=["-vvv"], files={"action_plugins/marks.py": MARKS})
    assert [task.kind for task in run.tasks] == ["failed"] * len(tasks), run.output
    assert "hidden 1" not in run.output and "hidden 3" not in run.output
    shown = re.split(r"TASK \[(?:loop|action)", run.stdout)[1:]
    assert [text in part for part, text in zip(shown, ["plain 1"] * 2 + ["plain 2"] * 2, strict=True)] == [True] * 4


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"async": 10, "poll": 1}, "async: pmitogen.core.loop waits for all its items; remove async, or use loop"),
    ({"loop": [1]}, "loop: cannot be combined with the items of pmitogen.core.loop; remove one of them"),
    ({"loop_control": {"break_when": "true"}}, "break_when: pmitogen.core.loop sends all items at once; use loop"),
    ({LOOP: {"args": {}, "items": []}}, "pmitogen.core.loop: missing required argument: module"),
    ({LOOP: {"module": "ping"}}, "pmitogen.core.loop: missing required argument: items"),
    ({LOOP: {"module": "no.such.one", "items": [1]}}, "module: 'no.such.one' was not found; expected the name of a module"),
    ({LOOP: {"module": "set_fact", "items": [1]}}, "module: set_fact acts on the run, not on the target; use loop"),
    ({LOOP: {"module": "ping", "items": "{{ 'abc' }}"}}, "items: expected a list, not str"),
    ({LOOP: {"module": "ping", "items": [1], "arg": 1}}, "Invalid options for pmitogen.core.loop: arg"),
]


@pytest.mark.one_core
def test_wrong_use_is_reported(ansible: Ansible) -> None:
    tasks = [{LOOP: {"module": "ping", "items": [1]}, "ignore_errors": True, **keywords} for keywords, _ in WRONG]
    run = ansible.tasks(tasks, {"web": {}}, connection="local")
    assert run.rc == 0 and len(run.tasks) == len(WRONG), run.output
    for task, (_, message) in zip(run.tasks, WRONG, strict=True):
        result = task.result.get("results", [task.result])[0]
        assert message in result["msg"] and task.kind == "failed"


EVIL = """\
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"say": {"type": "raw"}})
said = {"ansible_index_var": module.params["say"], "ansible_loop_var": module.params["say"]}
module.fail_json(msg="\\x1b[2J\\nok: [bank]", **said)
"""


@pytest.mark.one_core
def test_a_hostile_result_shows_no_variable_and_controls_no_terminal(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    variables = ansible.target(sshd, account, hidden_one="S3CRET")
    items = ["hidden_one", "nonesuch", ["a", "list"]]
    task = {LOOP: {"module": "evil", "args": {"say": "{{ item }}"}, "items": items}, "ignore_errors": True}
    run = ansible.tasks([task], {"web": variables}, files={"library/evil.py": EVIL})
    results = run.tasks[0]["results"]
    assert [result["item"] for result in results] == items and {result["ansible_loop_var"] for result in results} == {"item"}
    assert not any("ansible_index_var" in result for result in results)
    assert "S3CRET" not in run.output + str(run.tasks[0].result)
    assert "\x1b[2J" not in run.output and "\nok: [bank]" not in run.output


@pytest.mark.one_core
def test_each_item_sees_the_changes_of_earlier_items(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Also if a change requires a new interpreter: the items that follow run in the new one, in order."""
    config = "/etc/sudoers.d/pmitogen-loop-test"
    lines = [
        "true",
        f"echo '# changed' > {config}",
        "true",
        f"rm {config}",
        "true",
        f"echo '# again' > {config}",
        "true",
        f"rm {config}",
    ]
    lines += ["true"] * 20
    items = {"module": _B + "shell", "args": {"cmd": "{{ item }}; echo {{ item }} >> /tmp/{{ name }}; wc -l < /tmp/{{ name }}"}}
    tasks: list[dict[str, Any]] = [
        {LOOP: {**items, "items": lines}, "become": True, "register": "made", "vars": {"name": f"{account.name}-loop"}},
        {_B + "file": {"path": f"/tmp/{account.name}-loop", "state": "absent"}, "become": True},
    ]
    run = ansible.tasks(tasks, {"web": ansible.target(sshd, account)}).check()
    assert [result["stdout"] for result in run.tasks[0]["results"]] == [str(index + 1) for index in range(len(lines))]


@pytest.mark.one_core
def test_items_stay_in_order_after_one_that_removes_an_account(
    ansible: Ansible, sshd: Sshd, account: Account, make_account: Any
) -> None:
    """That item waits until the account's interpreter has ended, and later items wait as well."""
    user, path = make_account().name, f"{account.home}/removed"
    commands = [f"rm -f {path}", f"userdel {user}; echo $? >> {path}", f"id {user} >> {path}; cat {path}", f"cat {path}; false"]
    tasks: list[dict[str, Any]] = [
        {_B + "command": "true", "become": True, "become_user": user},
        {LOOP: {"module": _B + "shell", "args": {"cmd": "{{ item }}"}, "items": commands}, "become": True, "ignore_errors": True},
    ]
    run = ansible.tasks(tasks, {"web": ansible.target(sshd, account)})
    results = run.tasks[1]["results"]
    assert [result["stdout"] for result in results] == ["", "", "0", "0"] and [r["rc"] for r in results] == [0, 0, 0, 1]


@pytest.mark.one_core
def test_a_lost_connection_fails_the_unfinished_items(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    ends = "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID))"
    commands = [
        "true",
        "true",
        f"test -e {account.home}/once || {{ touch {account.home}/once; {ends}; sleep 20; }}",
        "true",
        "true",
    ]
    tasks = [{LOOP: {"module": _B + "shell", "args": {"cmd": "{{ item }}"}, "items": commands}}]
    run = ansible.tasks(tasks, {"web": ansible.target(sshd, account)})
    results = run.tasks[0]["results"]
    assert run.rc != 0 and [bool(result.get("unreachable") or result["failed"]) for result in results][:3] == [False, False, True]
