"""The cache of payloads that earlier runs have built: pmitogen/ansible/preload/payload_cache.py."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.optimised]

STAT = {"name": "stat", "ansible.builtin.stat": {"path": "/etc/passwd"}}
Tamper = Callable[[Path], object]

GREET = """#!/usr/bin/python
DOCUMENTATION = "module: greet"
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.%s.plugins.module_utils.words import WORD
AnsibleModule(argument_spec={}).exit_json(word=WORD)
"""

TWO_RESTORE_AT_ONCE = """
import json, os, sys, time
from ansible import constants
from pmitogen.ansible.preload import payload_cache, shared_state
constants.DEFAULT_LOCAL_TMP = sys.argv[1]
out, into = os.pipe()
payload_cache._restore_all = lambda: (os.write(into, b"begin "), time.sleep(0.5), os.write(into, b"end "))
for _ in range(2):
    if os.fork() == 0:
        payload_cache.restore(shared_state.SharedState())
        os.write(into, b"back ")
        os._exit(0)
for _ in range(2):
    os.wait()
print(json.dumps(os.read(out, 100).decode().split()))
"""

FIRST_RUN = """
import json, sys
from ansible import constants
from pmitogen.ansible.preload import payload_cache, shared_state
constants.DEFAULT_LOCAL_TMP = sys.argv[1]
hosts = shared_state.SharedState()
payload_cache.restore(hosts)
print(json.dumps(hosts.payloads_restored))
"""

PRUNE = """
import json, os, sys
from pmitogen.ansible.preload import payload_cache
directory = os.open(sys.argv[1], os.O_RDONLY)
payload_cache._prune(directory)
print(json.dumps([payload_cache.MAX_STORED, sorted(os.listdir(directory))]))
"""


class Home:
    """An ANSIBLE_HOME for one test, with the payload cache in it."""

    def __init__(self, ansible: Ansible, path: Path) -> None:
        self._ansible = ansible
        self.path = path
        self.cache_dir = path / "pmitogen"
        path.mkdir()

    def play(
        self,
        target: dict[str, Any],
        tasks: list[dict[str, Any]],
        *,
        hosts: int = 1,
        files: dict[str, str | bytes] | None = None,
        **env: str,
    ) -> Run:
        """Run *tasks* with ANSIBLE_DEBUG, whose output shows each payload that is built."""
        run = self._ansible.tasks(
            tasks,
            {f"h{index}": target for index in range(hosts)},
            files=files or {},
            env={"ANSIBLE_HOME": str(self.path), "ANSIBLE_DEBUG": "1", **env},
        ).check()
        assert not run.warnings, run.warnings
        assert not list((self.path / "tmp").iterdir()), "left behind"
        return run

    def names(self) -> set[str]:
        """The modules whose payloads are cached."""
        return (
            {path.name.split("-")[1].rpartition(".")[2] for path in self.cache_dir.iterdir()}
            if self.cache_dir.exists()
            else set()
        )


@pytest.fixture
def home(ansible: Ansible, tmp_path: Path) -> Home:
    if tuple(map(int, ansible.core.split("."))) < (2, 19):
        pytest.skip("pmitogen caches no payloads of this ansible-core")
    return Home(ansible, tmp_path / "home")


def built(run: Run) -> int:
    """Return the number of payloads that the workers of *run* built."""
    return run.stdout.count("ANSIBALLZ: Creating module")


def test_a_later_run_builds_nothing(home: Home, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    tasks = [
        {"name": "first", "ansible.builtin.command": "echo one"},
        STAT,
        {"name": "copy", "copy": {"content": "x", "dest": f"{account.home}/copied"}},
        {"name": "tidy", "file": {"path": f"{account.home}/copied", "state": "absent"}},
    ]
    target = ansible.target(sshd, account)
    assert built(home.play(target, tasks)) > 0
    assert home.names() >= {"command", "stat", "copy", "file"}
    assert stat.S_IMODE(home.cache_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.cache_dir.iterdir()} == {0o600}
    before = {path: path.stat() for path in home.cache_dir.iterdir()}
    run = home.play(target, tasks)
    assert built(run) == 0
    assert run.task("first")["stdout"] == "one" and run.task("stat")["stat"]["exists"]
    assert run.task("copy").changed and run.task("tidy").changed
    assert {path: path.stat().st_ctime_ns for path in before} == {path: found.st_ctime_ns for path, found in before.items()}


@pytest.mark.newest_core
def test_workers_of_many_hosts_build_nothing(home: Home, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Workers that start during a restore wait for it and build nothing."""
    target = ansible.target(sshd, account)
    home.play(target, [STAT])
    assert built(home.play(target, [STAT], hosts=5)) == 0


@pytest.mark.newest_core
def test_a_worker_waits_for_a_restore_in_progress(home: Home, ansible: Ansible, tmp_path: Path) -> None:
    assert ansible.answer(TWO_RESTORE_AT_ONCE, str(tmp_path)) == ["begin", "end", "back", "back"]


@pytest.mark.one_core
def test_an_empty_cache_is_marked_as_restored(home: Home, ansible: Ansible, tmp_path: Path) -> None:
    assert ansible.answer(FIRST_RUN, str(tmp_path), ANSIBLE_HOME=str(home.path)) is True


@pytest.mark.one_core
def test_the_oldest_entries_are_removed(home: Home, ansible: Ansible, tmp_path: Path) -> None:
    for index in range(70):
        (tmp_path / f"{index:02}").write_text("")
        os.utime(tmp_path / f"{index:02}", (index, index))
    for name, age in ((".being-written", None), (".abandoned", (1, 1))):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, age)
    home.path.rmdir()
    most, left = ansible.answer(PRUNE, str(tmp_path))
    assert left == [".being-written", *(f"{index:02}" for index in range(70 - most, 70))]


@pytest.mark.newest_core
def test_an_adhoc_command_uses_the_cache(home: Home, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    env = {"ANSIBLE_HOME": str(home.path), "ANSIBLE_DEBUG": "1"}
    runs = [ansible.adhoc("stat", "path=/", {"h": ansible.target(sshd, account)}, env=env).check() for _ in range(2)]
    assert [built(run) for run in runs] == [1, 0]


def _flip_a_bit(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def _truncate(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    os.truncate(path, path.stat().st_size // 2)


def _make_empty(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    os.truncate(path, 0)


def _wrong_types(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    path.write_bytes(b'{"sha256": 1, "sources": [2]}\n')


@pytest.mark.parametrize("tamper", [_flip_a_bit, _truncate, _make_empty, _wrong_types])
def test_a_damaged_entry_is_replaced(home: Home, ansible: Ansible, sshd: Sshd, account: Account, tamper: Tamper) -> None:
    target = ansible.target(sshd, account)
    home.play(target, [STAT])
    tamper(home.cache_dir)
    assert [built(home.play(target, [STAT])) for _ in range(2)] == [1, 0]


def _open_to_others(cache_dir: Path) -> None:
    cache_dir.chmod(0o750)


def _owned_by_another(cache_dir: Path) -> None:
    os.chown(cache_dir, 12345, 0)


def _link(cache_dir: Path) -> None:
    cache_dir.rename(cache_dir.with_name("elsewhere"))
    cache_dir.symlink_to("elsewhere")


def _linked_entry(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    path.rename(cache_dir.with_name("elsewhere"))
    path.symlink_to("../elsewhere")


def _entry_owned_by_another(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    os.chown(path, 12345, 0)


def _writable_entry(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    path.chmod(0o602)


def _second_name(cache_dir: Path) -> None:
    (path,) = cache_dir.iterdir()
    os.link(path, cache_dir.with_name("elsewhere"))


def _no_sources(cache_dir: Path) -> None:
    """The checksum is valid, but the entry names no source file that could have changed."""
    (path,) = cache_dir.iterdir()
    head, _, data = path.read_bytes().partition(b"\n")
    about = {**json.loads(head), "sources": {}}
    text = json.dumps([about["profile"], about["mapping"], about["sources"]], sort_keys=True).encode()
    about["sha256"] = hashlib.sha256(text + data).hexdigest()
    path.write_bytes(json.dumps(about).encode() + b"\n" + data)


_TAMPERED = [
    _open_to_others,
    _owned_by_another,
    _link,
    _linked_entry,
    _entry_owned_by_another,
    _writable_entry,
    _second_name,
    _no_sources,
]


@pytest.mark.one_core
@pytest.mark.parametrize("tamper", _TAMPERED)
def test_an_entry_that_another_account_could_write_is_not_used(
    home: Home, ansible: Ansible, sshd: Sshd, account: Account, tamper: Tamper
) -> None:
    target = ansible.target(sshd, account)
    home.play(target, [STAT])
    tamper(home.cache_dir)
    assert built(home.play(target, [STAT])) == 1


@pytest.mark.one_core
def test_no_cache_is_made_in_the_home_of_another_account(home: Home, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    os.chown(home.path, account.uid, account.uid)
    assert built(home.play(ansible.target(sshd, account), [STAT])) == 1
    assert not home.cache_dir.exists()


@pytest.mark.one_core
def test_pmitogen_preload_0_turns_the_cache_off(home: Home, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    target = ansible.target(sshd, account)
    home.play(target, [STAT], PMITOGEN_PRELOAD="0")
    assert not home.cache_dir.exists()
    home.play(target, [STAT])
    assert built(home.play(target, [STAT], PMITOGEN_PRELOAD="0")) == 1


@pytest.mark.one_core
def test_the_cache_is_not_used_with_module_utils_of_the_playbook(
    home: Home, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    """No payload is restored if there are any, and none that was built from them is stored."""
    target = ansible.target(sshd, account)
    home.play(target, [STAT])
    (tmp_path / "utils").mkdir()
    assert built(home.play(target, [STAT], ANSIBLE_MODULE_UTILS=str(tmp_path / "utils"))) == 0, "an empty directory is no reason"
    (tmp_path / "utils/x.py").write_text("")
    assert built(home.play(target, [STAT], ANSIBLE_MODULE_UTILS=str(tmp_path / "utils"))) == 1
    assert built(home.play(target, [STAT], files={"module_utils/x.py": ""})) == 1
    assert built(home.play(target, [STAT], files={"roles/r/module_utils/x.py": ""})) == 1
    shutil.rmtree(home.cache_dir)
    own = {"module_utils/common/file.py": "raise SystemError('not core')"}
    assert ansible.tasks([STAT], {"h": target}, files=own, env={"ANSIBLE_HOME": str(home.path)}).task("stat").kind == "failed"
    assert home.names() == set()


@pytest.mark.one_core
def test_payloads_of_another_or_a_changed_ansible_core_are_not_used(
    home: Home, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    core = Path(ansible.run_python("-c", "import ansible; print(ansible.__path__[0])").stdout.strip())
    copy = tmp_path / "lib" / "ansible"
    shutil.copytree(core, copy, ignore=shutil.ignore_patterns("__pycache__", "galaxy"))
    shutil.copytree(core / "galaxy", copy / "galaxy")
    path = {"PYTHONPATH": f"{tmp_path / 'lib'}:{os.environ['PYTHONPATH']}"}
    target = ansible.target(sshd, account)
    ping = {"name": "ping", "ansible.builtin.ping": {}}
    home.play(target, [ping])
    assert built(home.play(target, [ping], **path)) == 1, "an ansible-core in another directory"
    home.play(target, [ping], **path)  # by now Python has created its own directories there
    assert built(home.play(target, [ping], **path)) == 0

    module = copy / "modules/ping.py"
    state = module.stat()
    module.write_text(module.read_text().replace("default='pong'", "default='pang'"))
    os.utime(module, ns=(state.st_atime_ns, state.st_mtime_ns))
    run = home.play(target, [ping], **path)
    assert built(run) == 1 and run.task("ping")["ping"] == "pang"
    assert built(home.play(target, [ping], **path)) == 0

    (copy / "module_utils/newcomer.py").write_text("")
    assert built(home.play(target, [ping], **path)) == 1
    assert home.play(target, [ping]).task("ping")["ping"] == "pong"

    before = set(home.cache_dir.iterdir())
    (copy / "release.py").touch()  # as if a machine that shares this home had another version
    assert [built(home.play(target, [ping], **path)) for _ in range(2)] == [1, 0]
    assert set(home.cache_dir.iterdir()) > before


def _collection(path: Path, name: str, word: str, imports: str) -> None:
    plugins = path / "ansible_collections" / name / "plugins"
    for directory in ("modules", "module_utils"):
        (plugins / directory).mkdir(parents=True)
    (plugins / "modules/greet.py").write_text(GREET % imports)
    (plugins / "module_utils/words.py").write_text(f"WORD = {word!r}\n")
    (plugins.parent / "meta").mkdir()
    (plugins.parent / "meta/runtime.yml").write_text("{}\n")


@pytest.mark.newest_core
def test_a_payload_of_a_collection_is_used_only_while_the_collection_is_unchanged(
    home: Home, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    """A collection of the same name in another directory has its own entries."""

    def play(where: str, module: str = "acme.tools.greet") -> tuple[int, str]:
        run = home.play(target, [{"name": "greet", module: {}}], ANSIBLE_COLLECTIONS_PATH=str(tmp_path / where))
        return built(run), str(run.task("greet")["word"])

    target = ansible.target(sshd, account)
    _collection(tmp_path / "one", "acme/tools", "hello", "acme.tools")
    _collection(tmp_path / "one", "acme/other", "salut", "acme.other")
    _collection(tmp_path / "two", "acme/tools", "hullo", "acme.tools")
    assert [play("one") for _ in range(2)] == [(1, "hello"), (0, "hello")]
    assert [play("two") for _ in range(2)] == [(1, "hullo"), (0, "hullo")]
    assert play("one") == (0, "hello")

    plugins = tmp_path / "one/ansible_collections/acme/tools/plugins"
    (plugins / "module_utils/words.py").write_text("WORD = 'hallo'\n")
    assert [play("one") for _ in range(2)] == [(1, "hallo"), (0, "hallo")]
    (plugins / "module_utils/__init__.py").write_text("")
    assert [play("one") for _ in range(2)] == [(1, "hallo"), (0, "hallo")]
    redirect = {"plugin_routing": {"module_utils": {"words": {"redirect": "acme.other.words"}}}}
    (plugins.parent / "meta/runtime.yml").write_text(json.dumps(redirect))
    assert [play("one") for _ in range(2)] == [(1, "salut"), (1, "salut")], "no payload of two collections is cached"


@pytest.mark.one_core
def test_a_module_that_imports_from_another_collection_is_not_cached(
    home: Home, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    _collection(tmp_path, "acme/tools", "hello", "acme.other")
    _collection(tmp_path, "acme/other", "hullo", "acme.other")
    for _ in range(2):
        tasks: list[dict[str, Any]] = [{"name": "greet", "acme.tools.greet": {}}]
        run = home.play(ansible.target(sshd, account), tasks, ANSIBLE_COLLECTIONS_PATH=str(tmp_path))
        assert built(run) == 1 and run.task("greet")["word"] == "hullo"
    assert home.names() == set()
