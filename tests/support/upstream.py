"""Undocumented names of other projects that pmitogen uses: private names, and public ones without a documentation.

One row for each name: its place, its form, the file of pmitogen that uses it, and the effect of its absence. Its test is
tests/unit/test_upstream_contract.py. Run as a program, by the Python of any environment, this checks the rows for the libraries
that are installed there, and prints failures as JSON: ``python upstream.py [LIBRARY...]``.

Imports the standard library only, and nothing of pmitogen.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ATTRIBUTE, VALUE, CLASS = "attribute", "value", "class"
# Python package -> its distribution.
DISTRIBUTIONS = {"paramiko": "paramiko", "mitogen": "mitogen", "ansible": "ansible-core"}


@dataclass(frozen=True)
class Row:
    """*owner*: a module, or ``module:Class``. *form*: parameters, as in ``(self, m)``; ATTRIBUTE (of instances); VALUE; CLASS.

    *since*: the first release that has it, if older supported releases lack it (pmitogen then works without it).
    """

    owner: str
    name: str
    form: str
    used_in: str
    breaks: str
    since: str = ""

    @property
    def library(self) -> str:
        """Return its package."""
        return self.owner.partition(".")[0].partition(":")[0]

    def __str__(self) -> str:
        return f"{self.owner.replace(':', '.')}.{self.name}{self.form if self.form.startswith('(') else ' (' + self.form + ')'}"


def _rows(owner: str, used_in: str, breaks: str, *names: str, since: str = "") -> Iterator[Row]:
    """Yield rows of *names*: ``"name(self, m)"`` for a method, else an attribute, or the form after a colon."""
    for text in names:
        name, bracket, rest = text.partition("(")
        name, _, form = name.partition(":")
        yield Row(owner, name, bracket + rest if bracket else form or ATTRIBUTE, used_in, breaks, since)


TRANSPORT, CHANNEL = "paramiko.transport:Transport", "paramiko.channel:Channel"
PACKETIZER, AUTH = "paramiko.packet:Packetizer", "paramiko.auth_handler:AuthHandler"
EXT = "transport/paramiko_ext/"
ROWS: tuple[Row, ...] = (
    # Paramiko. Protections are also checked at import (pmitogen/util/overrides.py).
    *_rows(
        TRANSPORT,
        EXT + "key_exchange.py",
        "key exchange: no login, or none that survives a rekey",
        "_kex_info:value",
        "_cipher_info:value",
        "_mac_info:value",
        "_compression_info:value",
        "_preferred_macs:value",
        "_check_banner(self)",
        "_send_kex_init(self)",
        "_negotiate_keys(self, m)",
        "_parse_kex_init(self, m)",
        "_parse_newkeys(self, m)",
        "_send_message(self, data)",
        "_send_user_message(self, data)",
        "active",
        "clear_to_send",
        "clear_to_send_lock",
        "clear_to_send_timeout",
        "in_kex",
        "initial_kex_done",
        "local_cipher",
        "remote_cipher",
        "local_kex_init",
        "preferred_kex:value",
        "packetizer",
        "remote_version",
    ),
    *_rows(
        TRANSPORT,
        EXT + "server_messages.py",
        "protection: the server's messages are not checked, or the reason for the end is lost",
        "_parse_disconnect(self, m)",
        "_parse_debug(self, m)",
        "_parse_ext_info(self, msg)",
        "_parse_global_request(self, m)",
        "_log(self, level, msg)",
        "_channel_counter",
        "channels_seen",
        "server_extensions",
    ),
    *_rows(
        TRANSPORT,
        EXT + "global_requests.py",
        "protection: an answer of the server's is taken for that of another request",
        "_parse_request_success(self, m)",
        "_parse_request_failure(self, m)",
    ),
    *_rows(
        TRANSPORT,
        EXT + "incoming_channels.py",
        "protection: the server can open channels that were not requested",
        "_parse_channel_open(self, m)",
    ),
    *_rows(
        TRANSPORT,
        EXT + "transport.py",
        "channels: nothing can be run, or a failure has no reason",
        "_channel_handler_table:value",
        "_channels",
        "_next_channel(self)",
        "_parse_channel_open_success(self, m)",
        "_parse_channel_open_failure(self, m)",
        "channel_events",
        "completion_event",
        "lock",
        "saved_exception",
        "sock",
        "logger",
    ),
    *_rows(
        TRANSPORT,
        "transport/paramiko_ext/host_key_policy.py",
        "protection: another host key at a rekey, or a weaker signature than agreed, is taken",
        "_verify_key(self, host_key, sig)",
        "preferred_keys:value",
        "host_key_type",
        "session_id",
    ),
    *_rows(
        CHANNEL,
        EXT + "channel.py",
        "channels: windows, data, their end",
        "_set_window(self, window_size, max_packet_size)",
        "_set_remote_channel(self, chanid, window_size, max_packet_size)",
        "_set_transport(self, transport)",
        "_check_add_window(self, n)",
        "_wait_for_send_window(self, size)",
        "_event_pending(self)",
        "_set_closed(self)",
        "_send_eof(self)",
        "_close_internal(self)",
        "_unlink(self)",
        "_request_success(self, m)",
        "_request_failed(self, m)",
        "_handle_eof(self, m)",
        "_handle_close(self, m)",
        "in_buffer",
        "in_stderr_buffer",
        "in_window_size",
        "in_max_packet_size",
        "eof_received",
        "eof_sent",
        "event",
        "event_ready",
        "exit_status",
        "logger",
        "lock",
        "remote_chanid",
    ),
    *_rows(
        "paramiko.buffered_pipe:BufferedPipe",
        EXT + "input_buffer.py",
        "channels: what arrives is not read",
        "_buffer_frombytes(self, data)",
        "_buffer_tobytes(self, limit)",
        "_closed",
        "_event",
        "_lock",
    ),
    *_rows(
        PACKETIZER,
        EXT + "packets/cipher_keys.py",
        "protection: limits of bytes and packets under one key, ciphers",
        "set_outbound_cipher(self, block_engine, block_size, mac_engine, mac_size, mac_key, sdctr, etm, aead, iv_out)",
        "set_inbound_cipher(self, block_engine, block_size, mac_engine, mac_size, mac_key, etm, aead, iv_in)",
        "reset_seqno_in(self)",
        "reset_seqno_out(self)",
        "need_rekey(self)",
        "_trigger_rekey(self)",
        "_initial_kex_done",
        "REKEY_BYTES:value",
        "REKEY_PACKETS:value",
        "REKEY_BYTES_OVERFLOW_MAX:value",
        "REKEY_PACKETS_OVERFLOW_MAX:value",
    ),
    *_rows(
        PACKETIZER,
        EXT + "packets/packetizer.py",
        "protection: limits of lengths, the peer's silence, the handshake's limit",
        "set_outbound_compressor(self, compressor)",
        "set_inbound_compressor(self, compressor)",
        "start_handshake(self, timeout)",
        "handshake_timed_out(self)",
        "complete_handshake(self)",
        "read_message(self)",
        "send_message(self, data)",
        "write_all(self, out)",
        "close(self)",
        "closed:value",
    ),
    *_rows(
        "paramiko.kex_gex:KexGexSHA256",
        EXT + "group_exchange.py",
        "protection: a server chooses how long the group exchange computes",
        "_generate_x(self)",
        "_parse_kexdh_gex_group(self, m)",
        "min_bits:value",
        "preferred_bits:value",
        "max_bits:value",
    ),
    *_rows(AUTH, "transport/paramiko_ext/userauth.py", "no login", "_handler_table:value", "abort(self)", "transport"),
    *_rows(TRANSPORT, "transport/paramiko_ext/userauth.py", "no login", "_auth_trigger(self)", "auth_handler"),
    *_rows(CHANNEL, EXT + "channel_messages.py", "channels: what may be sent", "out_window_size"),
    *_rows(CHANNEL, "transport/sessions/exec_command.py", "commands of hosts without Python", "status_event"),
    # Mitogen
    *_rows(
        "mitogen.core:Router",
        "hub/mitogen_router.py",
        "protection: messages between hosts are forwarded; or no message arrives",
        "_async_route(self, msg, in_stream)",
        "_write_lock",
        "_stream_by_id",
        "add_handler(self, fn, handle, persist, policy, respondent, overwrite)",
        "del_handler(self, handle)",
    ),
    *_rows(
        "mitogen.core:Broker",
        "hub/mitogen_router.py",
        "the I/O loop of the hub",
        "_loop_once(self, timeout)",
        "_waker",
        "poller_class:value",
        "shutdown_timeout:value",
    ),
    *_rows("mitogen.core", "hub/mitogen_router.py", "routing is switched on", "DEL_ROUTE:value", "listen:value"),
    *_rows("mitogen.parent", "hub/mitogen_router.py", "the I/O loop of the hub", "PREFERRED_POLLER:value", "TimerList:class"),
    *_rows(
        "mitogen.core:MitogenProtocol",
        "hub/mitogen_stream.py",
        "nothing is sent to hosts",
        "_send(self, msg)",
        "pending_bytes(self)",
        "_router",
        "remote_id",
    ),
    *_rows(
        "mitogen.core:Stream",
        "hub/mitogen_stream.py",
        "the end of a host's stream",
        "on_disconnect(self, broker)",
        "set_protocol(self, protocol)",
    ),
    *_rows("mitogen.core", "hub/mitogen_stream.py", "the end of a host's stream", "fire:value"),
    *_rows("mitogen.minify", "hub/bootstrap.py", "the bundle for hosts", "minimize_source:value"),
    # ansible-core, on the controller
    *_rows(
        "ansible.plugins.connection:ConnectionBase",
        "ansible/task_variables.py",
        "options and interpreter of a task",
        "_resolve_option_variables(self, variables, templar)",
        since="2.17",
    ),
    *_rows(
        "ansible.plugins.connection:ConnectionBase",
        "ansible/connection.py",
        "options of a task",
        "_play_context",
        "_shell",
    ),
    *_rows(
        "ansible.plugins.action:ActionBase",
        "ansible/loop_action.py",
        "the action pmitogen.core.loop",
        "_connection",
        "_loader",
        "_play_context",
        "_supports_async:value",
        "_task",
        "_templar",
        "_VALID_ARGS:value",
    ),
    *_rows(
        "ansible.plugins.action:ActionBase",
        "ansible/loop_action.py",
        "arguments that use the item",
        "finalize_task_arg(cls, name, value, templar, context)",
        since="2.19",
    ),
    *_rows(
        "ansible.plugins:AnsiblePlugin",
        "ansible/connection.py",
        "options of a task",
        "_options",
    ),
    *_rows("ansible.plugins.shell:ShellBase", "ansible/shell.py", "temporary directories", "_generate_temp_dir_name()"),
    *_rows("ansible.plugins.shell.powershell:ShellModule", "ansible/connection.py", "shells of Windows", "_IS_WINDOWS:value"),
    *_rows(
        "ansible.plugins.loader:PluginLoader",
        "ansible/preload/payload_cache.py",
        "payloads are built anew in each run",
        "_get_paths(self, subdirs)",
    ),
    *_rows(
        "ansible.executor.module_common",
        "ansible/preload/payload_cache.py, prebuild.py",
        "payloads are built anew in each run",
        "_CachedModule:class",
        since="2.19",
    ),
    *_rows(
        "ansible._internal._task",
        "ansible/preload/before_fork.py",
        "each worker looks at annotations",
        "UnifiedTaskResult:class",
        since="2.21",
    ),
    # ansible-core, on the target
    *_rows("ansible.module_utils.basic", "target/payload/run.py", "no module runs (2.16 to 2.18)", "_ANSIBLE_ARGS:value"),
    *_rows(
        "ansible.module_utils._internal._ansiballz._loader",
        "target/payload/run.py",
        "no module runs",
        "run_module:value",
        since="2.21",
    ),
    *_rows(
        "ansible.module_utils.secrets",
        "ansible/masking.py",
        "secrets of jump hosts are shown",
        "register_secrets:value",
        since="2.22",
    ),
    # CPython; tests of the runner check the same on targets, for each of their versions
    *_rows(
        "subprocess", "target/payload/fast_subprocess.py", "modules start programs more slowly", "_fork_exec:value", since="3.11"
    ),
    *_rows("threading", "target/payload/run.py", "threads of a module are not joined at its end", "_shutdown()"),
    *_rows("atexit", "target/payload/run.py", "exit functions of a module are not called", "_run_exitfuncs:value"),
    *_rows("sys", "target/payload/fast_subprocess.py", "modules that start programs may wait a second", "_getframe:value"),
    *_rows(
        "os", "target/fork.py and others", "a forked process cannot end without the exit functions of its parent", "_exit:value"
    ),
    *_rows("_imp", "target/payload/module_cache.py", "lines in tracebacks of further accounts", "_fix_co_filename:value"),
    *_rows(
        "importlib._bootstrap_external",
        "target/payload/importer.py",
        "no module is imported (targets before 3.10)",
        "_fix_up_module:value",
    ),
    *_rows(
        "importlib.resources",
        "target/payload/importer.py",
        "files of packages (targets with 3.7)",
        "_zipimport_get_resource_reader:gone",
    ),
)


def installed(library: str) -> str | None:
    """Return the installed version of *library* (Python's own for its modules), or None."""
    distribution = DISTRIBUTIONS.get(library)
    if distribution is None:
        return "%d.%d" % sys.version_info[:2]
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def failures(libraries: tuple[str, ...] = ()) -> list[str]:
    """Return the rows of *libraries* (all installed ones if empty) that do not hold, each with the actual form."""
    wrong = []
    for row in ROWS:
        version = installed(row.library)
        if (libraries and row.library not in libraries) or version is None or row.form in ("gone", "instance"):
            continue
        if row.since and _key(version) < _key(row.since):
            continue
        problem = _problem(row)
        if problem:
            wrong.append(f"{row} of {row.library} {version}: {problem}; used in pmitogen/{row.used_in}; breaks {row.breaks}")
    return wrong


def _problem(row: Row) -> str:
    module, _, name = row.owner.partition(":")
    try:
        owner: Any = importlib.import_module(module)
        owner = getattr(owner, name) if name else owner
    except (ImportError, AttributeError) as exc:
        return f"{type(exc).__name__}: {exc}"
    if row.form == ATTRIBUTE:
        return "" if hasattr(owner, row.name) or row.name in _assigned(owner) else "no such attribute"
    if not hasattr(owner, row.name):
        return "no such name"
    found = inspect.getattr_static(owner, row.name)
    if row.form == CLASS:
        return "" if isinstance(found, type) else "not a class"
    if row.form == VALUE:
        return ""
    code = getattr(getattr(owner, row.name), "__code__", None)
    if code is None:
        return "not a function of Python's"
    now = f"({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"
    return "" if now == row.form else f"has {now}"


def _assigned(owner: type) -> set[str]:
    """Return the names of attributes that methods of a class and its base classes assign to ``self``."""
    found: set[str] = set()
    for each in owner.__mro__:
        try:
            source = textwrap.dedent(inspect.getsource(each))
        except (OSError, TypeError):  # created at run time, or in C
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                found.add(node.attr)
    return found


if __name__ == "__main__":
    print(json.dumps(failures(tuple(sys.argv[1:]))))
