"""The checked files that make an interpreter equal to a fresh one: the table, its files, and refused requests."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.target import freshness, rules, sources
from tests.support import processes
from tests.support.session import repository

SOURCE = repository / "pmitogen/target/freshness.py"
PLAYS = repository / "tests/ansible/differential/plays"
ROWS = re.findall(r'^    \("([^"]+)", [A-Z]+, .*\),  # (\S+): (.+)$', SOURCE.read_text(), re.M)


def test_every_row_has_a_test() -> None:
    assert [row[0] for row in freshness.TABLE] == [what for what, _, _ in ROWS]
    for what, name, tests in ROWS:
        if name.endswith(".yml"):
            tasks = re.findall(r"^ +(?:- )?name: (.+)$", (PLAYS / name).read_text(), re.M)
            missing = [test for test in tests.split(", ") if test not in tasks]
        else:
            (path,) = (repository / "tests").rglob(name)
            missing = [test for test in tests.split(", ") if f"def {test}(" not in path.read_text()]
        assert not missing, f"{what}: {name} has no {missing}"


def test_every_kind_of_check_is_used() -> None:
    ways = {freshness.CHILD, freshness.START, freshness.PYTHON, freshness.ENTRY, freshness.SESSION, freshness.CONNECT}
    assert {row[1] for row in freshness.TABLE} == ways


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("LD_PRELOAD", True),
        ("OPENSSL_CONF", True),
        ("GLIBC_TUNABLES", True),
        ("MALLOC_ARENA_MAX", True),
        ("LC_ALL", True),
        ("LANGUAGE", True),
        ("LOCPATH", True),
        ("GCONV_PATH", True),
        ("PYTHONPATH", True),
        ("HOME", True),
        ("HOMEPAGE", False),
        ("TZ", False),
        ("SSL_CERT_FILE", False),
        ("PATH", False),
        ("MY_LD_PRELOAD", False),
    ],
)
def test_variables_that_count_at_the_start(name: str, counts: bool) -> None:
    assert freshness.is_startup_variable(name) is counts


PLACE = {"python": sys.executable, "programs": ["/usr/bin/sudo"], "users": ["root", "app"], "shell": True}


@pytest.mark.parametrize("how", [freshness.PYTHON, freshness.ENTRY, freshness.SESSION])
def test_a_change_of_any_watched_file_is_detected(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = freshness.Watch(how, PLACE)
    monkeypatch.setattr(freshness, "FULL_CHECK_PAUSE", 0)
    monkeypatch.setattr(rules, "lines_about", lambda users, files: object())
    before = dict(watch._signatures)  # other tests may change directories of the repository meanwhile
    for path in before:
        monkeypatch.setattr(sources, "signature", lambda name, path=path: (0, 0) if name == path else before[name])
        assert watch.changed() == path
    monkeypatch.setattr(sources, "signature", before.__getitem__)
    assert watch.changed() is None


def test_a_check_takes_little_time() -> None:
    """A stat(2) takes 1 to 3 microseconds in Python, and a task takes 10 milliseconds and more."""
    place = {**PLACE, "shell": False}
    watches = [freshness.Watch(how, place) for how in (freshness.PYTHON, freshness.ENTRY, freshness.SESSION)]
    own = [
        path
        for watch in watches
        for path in watch._signatures
        if "-packages" not in path and "sudoers.d/" not in path and not path.startswith(str(repository))
    ]
    assert len(own) < 45, own


def test_library_files_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the dynamic linker, the C library and OpenSSL count for every interpreter, wherever it is installed."""
    monkeypatch.setattr(sources.os, "confstr", lambda name: "glibc 2.31")
    watched = set(freshness.Watch(freshness.PYTHON, {})._signatures)
    assert {"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/usr/lib/locale"} <= watched
    assert any(path.endswith("openssl.cnf") for path in watched)
    assert ("/etc/selinux/config" in watched) is Path("/etc/selinux").exists()
    monkeypatch.setattr(sources.os, "confstr", lambda name: "glibc 2.36")
    assert "/etc/nsswitch.conf" not in freshness.Watch(freshness.PYTHON, {})._signatures  # glibc checks it itself


def test_included_files_of_openssl_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more.d").mkdir()
    (tmp_path / "more.d/one.cnf").write_text("")
    conf = tmp_path / "openssl.cnf"
    conf.write_text(f".include = {tmp_path}/policy.config\n.include {tmp_path}/more.d\n#.include /etc/nothing\n")
    monkeypatch.setenv("OPENSSL_CONF", str(conf))
    assert sources.openssl_files({}) == [str(conf), f"{tmp_path}/policy.config", f"{tmp_path}/more.d/"]


def test_imported_modules_outside_the_standard_library_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fresh_elsewhere.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("fresh_elsewhere")
    found = sources.imported_modules({})
    assert str(tmp_path) in found
    assert f"{tmp_path}/fresh_elsewhere.py" in found  # an editor does not change the directory
    assert not any(path.endswith(("/json", "/collections")) for path in found)


def test_each_of_many_files_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hundreds of modules, path configuration files or rules, a change of the last one counts as one of the first does."""
    names = [f"fresh_many_{index:03}" for index in range(300)]
    for name in names:
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
        (tmp_path / f"{name}.pth").write_text("")
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__file__=f"{tmp_path}/{name}.py"))
    modules = {str(tmp_path / f"{name}.py") for name in names}
    assert modules <= set(sources.imported_modules({}))
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    (tmp_path / "site-packages").symlink_to(tmp_path)
    assert f"{tmp_path}/site-packages/{names[-1]}.pth" in sources.site_directories({})
    watch = freshness.Watch("", {})
    watch.add([str(tmp_path), *sorted(modules), f"{tmp_path}/"])
    assert watch.changed() is None
    for path in (min(modules), max(modules), str(tmp_path / f"{names[-1]}.pth")):
        with open(path, "r+") as stream:  # in place, so that the directory does not change
            stream.write("VALUE = 2\n")
        processes.wait_until(lambda path=path: watch.changed() == path)
        watch._signatures[path] = sources.signature(path)


def test_checks_of_many_files_are_limited_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, checked = freshness.Watch("", {}), []
    watch.add(str(tmp_path / f"file{index}") for index in range(1000))
    clock = iter(range(10**6))
    monkeypatch.setattr(freshness, "now", lambda: next(clock) / 1000)
    monkeypatch.setattr(sources, "signature", lambda path: checked.append(path))
    for _ in range(100):
        assert watch.changed() is None
    assert len(checked) < 100 * freshness.MAX_CHECKED + 4 * 1000


def test_archives_on_the_path_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "modules.zip")
    assert f"{tmp_path}/modules.zip" in sources.site_directories({})


def test_site_directories_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own is watched before it exists: by the first missing directory on its path."""
    import site

    user_site = tmp_path / "lib/python3/site-packages"
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(user_site))
    watch = freshness.Watch(freshness.PYTHON, {})
    assert f"{tmp_path}/lib" in watch._signatures and watch.changed() is None
    (user_site).mkdir(parents=True)
    assert watch.changed() == f"{tmp_path}/lib"
    (user_site / "more.pth").write_text("/nowhere\n")
    watch = freshness.Watch(freshness.PYTHON, {})
    assert {str(user_site), f"{user_site}/more.pth"} <= set(watch._signatures)


def test_files_of_version_managers_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert f"{tmp_path}/version" in sources.interpreter({"python": str(shim)})
    assert f"{tmp_path}/version" not in sources.interpreter({})
    monkeypatch.setenv("PATH", f"{tmp_path}/first:{tmp_path}:/usr/bin")
    found = sources.interpreter({"python": "python"})
    assert {f"{tmp_path}/first/python", str(shim)} <= set(found) and "/usr/bin/python" not in found


def test_start_up_files_and_included_ones_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BASH_ENV", "/opt/env")
    (tmp_path / ".bashrc").write_text('. "$HOME/.cargo/env"\n[ -f ~/.more ] && source ~/.more; . $UNKNOWN/x\n')
    (tmp_path / ".more").write_text(". /etc/still-more\n")
    found = sources.shell_files("/bin/bash", False)
    assert {"/opt/env", f"{tmp_path}/.bashrc", f"{tmp_path}/.cargo/env", f"{tmp_path}/.more", "/etc/still-more"} <= set(found)
    assert f"{tmp_path}/.profile" not in found and f"{tmp_path}/.profile" in sources.shell_files("/bin/bash", True)
    for shell in ("zsh", "tcsh", "fish"):
        assert any(path.startswith(f"{tmp_path}/.") for path in sources.shell_files(shell, False))
    assert sources.shell_files("/bin/dash", False) == ["/opt/env"]


def test_files_named_in_start_up_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/app")
    text = """
    for rc in ~/.bashrc.d/*; do . "$rc"; done   # ~/comment
    export NVM_DIR="$HOME/.nvm"; [ -s "$NVM_DIR/nvm.sh" ] && \\. "$NVM_DIR/nvm.sh"
    export ROLE=$(cat /opt/role) TOOLS=%s
    . ./.here; . plain; . ~/früh; source ${UNSET}/x
    date >> ~/log; touch ~/touched; ls /usr/share/x /tmp/x; . /tmp/read
    """
    (tmp_path / "rc").write_text(text % tmp_path)
    found = dict(sources.named(sources.read_text(f"{tmp_path}/rc")))
    assert {"/home/app/.nvm/nvm.sh", "/home/app/.here", "/home/app/plain", "/home/app/früh", "/tmp/read"} == {
        path for path in found if found[path]
    }
    assert {"/home/app/.bashrc.d/", "/opt/role"} <= set(found)
    assert not {"/home/app/comment", "/home/app/log", "/home/app/touched", "/usr/share/x", "/tmp/x"} & set(found)


def test_a_named_directory_is_watched_by_its_identity(tmp_path: Path) -> None:
    assert sources.watchable(str(tmp_path), ()) == f"{tmp_path}/."
    assert sources.watchable(f"{tmp_path}/*.sh", ()) == f"{tmp_path}/"
    assert sources.watchable(f"{tmp_path}/file", ()) == f"{tmp_path}/file"
    assert sources.watchable(f"{tmp_path}/$UNKNOWN", ()) == sources.watchable("relative") == sources.watchable("/") == ""


def test_files_included_by_sudoers_are_found(tmp_path: Path) -> None:
    main, more = tmp_path / "sudoers", tmp_path / "more"
    main.write_text('@include more\n#includedir /opt/rules\nDefaults env_file = "/opt/environment"\n')
    more.write_text("  @include /opt/deeper.%h\nDefaults restricted_env_file=/opt/restricted, umask=077\n@include more\n")
    found = sources.sudo_includes(str(main), f"{tmp_path}/none/")
    assert {str(more), "/opt/rules/", "/opt/environment", "/opt/restricted"} <= set(found)
    assert any(path.startswith("/opt/deeper.") and "%" not in path for path in found)


def test_a_home_is_watched_by_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    watch = freshness.Watch(freshness.SESSION, {})
    (home / "file").write_text("")
    assert watch.changed() is None
    home.rename(tmp_path / "old")
    home.mkdir()
    assert watch.changed() == f"{home}/."


def test_files_of_pam_services_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAM_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setenv("HOME", "/home/app")
    (tmp_path / "su").write_text(
        "auth sufficient pam_rootok.so\n@include common\n"
        "session required pam_env.so readenv=1 envfile=/etc/default/locale user_readenv=1\n"
        "session optional pam_motd.so motd=/run/motd.dynamic\nsession required pam_exec.so quiet /opt/program\n"
        "auth required pam_listfile.so item=user [file=/opt/list] onerr=fail\n"
        "auth required pam_shells.so\n# session required pam_time.so\n-session include more\n"
    )
    (tmp_path / "common").write_text("session required pam_limits.so\nsession include su\n")
    found = sources.pam_files(["su"])
    assert {f"{tmp_path}/su", f"{tmp_path}/common", f"{tmp_path}/more"} <= set(found)
    assert {"/etc/environment", "/etc/default/locale", "/etc/security/limits.d/", "/home/app/.pam_environment"} <= set(found)
    assert {"/opt/program", "/opt/list", "/etc/shells"} <= set(found)
    assert not {"/etc/security/time.conf", "/run/motd.dynamic"} & set(found)


@pytest.mark.parametrize(
    ("path", "line", "counts"),
    [
        ("/etc/passwd", "app:x:1:1::/home/app:/bin/sh", True),
        ("/etc/passwd", "other:x:1:1::/home/app:/bin/sh", False),
        ("/etc/group", "games:x:60:bob,app", True),
        ("/etc/group", "app:x:60:", False),
        ("/etc/sudoers", "app ALL=(ALL) ALL", True),
        ("/etc/sudoers.d/", "other ALL=(ALL) ALL", False),
        ("/etc/sudoers.d/", "%wheel ALL=(ALL) ALL", True),
        ("/etc/sudoers.d/", "other, app ALL=(ALL) ALL", True),
        ("/etc/sudoers.d/", "other , app ALL=(ALL) ALL", True),
        ("/etc/sudoers.d/", "ADMINS ALL=(ALL) ALL", True),
        ("/etc/sudoers.d/", "Defaults:other umask=0", False),
        ("/etc/sudoers.d/", "Defaults:app umask=0", True),
        ("/etc/sudoers.d/", "Defaults env_reset", True),
        ("/etc/sudoers.d/", "", False),
        ("/etc/doas.conf", "permit nopass keepenv other # other", False),
        ("/etc/doas.conf", "permit nopass setenv { A=b C } app as root", True),
        ("/etc/doas.conf", "permit :wheel", True),
        ("/etc/security/limits.d/", "other soft core 1", False),
        ("/etc/security/limits.d/", "* soft core 1", True),
        ("/etc/security/limits.d/", "@app soft core 1", True),
    ],
)
def test_a_line_of_a_rule_file_concerns_its_users_and_groups(path: str, line: str, counts: bool) -> None:
    assert rules.concerns(path, line, ["app", "root"]) is counts


def test_the_primary_group_concerns_its_users() -> None:
    assert rules.concerns("/etc/group", "renamed:x:1001:", ["app"], {"1001"})
    assert not rules.concerns("/etc/group", "other:x:1002:", ["app"], {"1001"})


@pytest.fixture
def rules_of_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, freshness.Watch]:
    """A rule for *app*, and a watch of its directory."""
    directory = tmp_path / "sudoers.d"
    directory.mkdir()
    (directory / "app").write_text("User_Alias ADMINS = other, \\\n  more\napp ALL=(ALL) ALL\n")
    monkeypatch.setattr(rules, "FILES", (f"{directory}/",))
    monkeypatch.setattr(rules, "PREFIXES", (str(directory),))
    monkeypatch.setattr(freshness, "TABLE", (("rules", freshness.ENTRY, (f"{directory}/",)),))
    return directory, freshness.Watch(freshness.ENTRY, {"users": ["app"]})


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: rule.rename(rule.with_name("app.off")),  # sudo ignores a name with a dot
        lambda rule: rule.chmod(0o666),  # and a file that others may write
        lambda rule: rule.write_text("app ALL=(ALL) ALL\n"),
        lambda rule: rule.write_text(rule.read_text().replace("  more", "  more, \\\n  another")),
    ],
)
def test_a_changed_rule_of_the_account_is_detected(
    rules_of_app: tuple[Path, freshness.Watch], change: Callable[[Path], object]
) -> None:
    directory, watch = rules_of_app
    (directory / "third").write_text("third ALL=(ALL) ALL\n")
    assert watch.changed() is None
    change(directory / "app")
    assert watch.changed() is not None


def test_rules_for_other_accounts_are_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "sudoers.d"
    directory.mkdir()
    (directory / "app").write_text("app ALL=(ALL) ALL\n")
    monkeypatch.setattr(rules, "FILES", (f"{directory}/",))
    monkeypatch.setattr(rules, "PREFIXES", (str(directory),))
    monkeypatch.setattr(freshness, "TABLE", (("rules", freshness.ENTRY, (f"{directory}/",)),))
    watch = freshness.Watch(freshness.ENTRY, {"users": ["app"]})
    (directory / "other").write_text("other ALL=(ALL) ALL\n")
    assert watch.changed() is None
    (directory / "other").write_text("other ALL=(ALL) ALL\nALL ALL=(ALL) ALL\n")
    assert watch.changed() == f"{directory}/other"  # now it is watched


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[freshness.FreshnessGuard, Callable[[], Any]]:
    """A guard of one file, and a function that changes that file."""
    watched = tmp_path / "watched"
    monkeypatch.setattr(freshness, "TABLE", (("file", freshness.PYTHON, (str(watched),)),))
    made = freshness.FreshnessGuard("tester")
    made.start("/usr/bin/python3")
    return made, lambda: watched.write_text("")


def test_requests_after_a_change_are_refused(guard: tuple[freshness.FreshnessGuard, Callable[[], Any]], tmp_path: Path) -> None:
    made, change = guard
    assert made.refusal({"op": "run", "id": 1, "chain": 1}) is None
    change()
    refusal = made.refusal({"op": "run", "id": 2, "chain": 1})
    assert refusal == {
        "op": "error",
        "id": 2,
        "kind": "stale",
        "reason": "account",
        "msg": f"{tmp_path}/watched",
        "refused_count": 0,
    }
    assert made.refusal({"op": "fs", "action": "remove", "id": 3, "chain": 1}) is None  # undone in the same interpreter
    assert made.refusal({"op": "fs", "action": "mkdtemp", "id": 4, "chain": 2, "no_reply": True}) == {}
    assert made.refusal({"op": "put", "id": 5, "chain": 2, "no_reply": True}) == {}
    assert made.refusal({"op": "fs", "action": "exists", "id": 6, "chain": 1, "even_if_stale": True}) is None
    asked = made.refusal({"op": "fs", "action": "exists", "id": 7, "chain": 2, "even_if_stale": True})
    assert asked is not None and asked["refused_count"] == 2
    assert made.refusal({"op": "fs", "action": "exists", "id": 8, "chain": 2, "even_if_stale": True}) is None


def test_a_change_seen_by_the_agent_is_the_reason_of_the_refusal(
    guard: tuple[freshness.FreshnessGuard, Callable[[], Any]],
) -> None:
    made, change = guard
    refusal = made.refusal({"op": "exec", "id": 1, "stale": ["session", "/home/app/.bashrc"]})
    assert refusal is not None and (refusal["reason"], refusal["msg"]) == ("session", "/home/app/.bashrc")
    change()
    refusal = made.refusal({"op": "exec", "id": 2})
    assert refusal is not None and refusal["reason"] == "session"
