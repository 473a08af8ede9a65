"""The selected integration targets of ansible-core."""

from __future__ import annotations

from typing import NamedTuple

# Connections, modules for POSIX targets, and the executor's use of their results. Excluded are targets that need a network,
# systemd, Windows or a container, and those that concern only the controller.
DEFAULT = """
 ansiballz_python args assemble async async_fail become become_su become_sudo become_unprivileged binary_modules_posix
blockinfile blocks check_mode command_shell connection_delegation connection_ssh copy cron delegate_to embedded_module
environment error_from_connection expect facts_d facts_linux_network fetch file find fork_safe_stdio gather_facts-errors
gathering git group handlers hosts_field ignore_unreachable include_import interpreter_discovery_python json_cleanup
known_hosts lineinfile loop-connection loops meta_tasks missing-interpreter module_no_log module_tracebacks module_utils
module_utils_common.respawn no_log noexec old_style_modules_posix omit ping python_module_rlimit_nofile raw remote_tmp
replace result_pickle_error script secret_masking_display secret_masking_module_python service_facts signal_propagation
slurp stacktrace_dump_remote stat strategy_free strategy_host_pinned task-timeout tempfile template throttle unicode
unsafe_writes user var_precedence wait_for wait_for_connection want_json_modules_posix
""".split()


class Expectation(NamedTuple):
    """A text in a target's file that is valid only over ssh, and its replacement in runs over pmitogen.

    *since*: the first ansible-core whose target has it; empty: each.
    """

    file: str
    ssh: str
    pmitogen: str
    since: str = ""


# connection -> target -> expectations that differ by design, so that the rest of the target can run.
EXPECTATIONS: dict[str, dict[str, tuple[Expectation, ...]]] = {
    "pmitogen": {
        "become_unprivileged": (  # docs/differences.md: files of become tasks
            Expectation(
                "common_remote_group/test.yml", "stat.stdout == 'unpriv1 commongroup'", "stat.stdout == 'unpriv2 unpriv2'"
            ),
        ),
        "connection_ssh": (  # docs/differences.md: messages of ssh
            Expectation(
                "runme.sh",
                "Failed to connect to the host via ssh: command-line line 0: no argument after keyword",
                "ssh_extra_args: -o: no argument after the keyword",
                since="2.22",
            ),
            Expectation("runme.sh", "-vvvvv | grep 'debug.:' | grep -v 'debug(2|3):'", "-vvvvv 2>&1 | grep 'hub: connect'"),
            Expectation("runme.sh", "grep 'debug3:'", "grep 'hub: connect'"),
            Expectation(
                "test_unreachable_become_timeout.yml",
                "Timeout (5s) waiting for privilege escalation prompt:",
                "no output without a prompt within 7 s",
            ),
            Expectation("test_ssh_askpass.yml", "is contains('Permission denied')", "is contains('password: refused')"),
            Expectation("test_ssh_askpass.yml", "EXEC ssh ", "ESTABLISH PMITOGEN CONNECTION"),
        ),
    },
}


def expectations(connection: str, target: str, core: str) -> list[tuple[str, str, str]]:
    """Return (file, text, its replacement) for runs of *target* over *connection* with *core*."""
    version = [int(part) for part in core.split(".")]
    found = EXPECTATIONS.get(connection, {}).get(target, ())
    return [each[:3] for each in found if not each.since or version >= [int(part) for part in each.since.split(".")]]
