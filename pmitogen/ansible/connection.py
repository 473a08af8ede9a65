"""The connection plugin's class: a thin client of the run's hub.

It runs in the process that Ansible forks for each task, so it does as little as possible: it sends the option set, turns
Ansible's calls into requests (see shell.py and ansiballz.py), and waits for answers (see hub_session.py). No part of Ansible is
patched. The class uses the public plugin interface, the shell object that Ansible lets a connection own, and, for sudo, su and
doas, an attribute of the become plugin's instance.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import shlex
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from ansible import constants
from ansible.errors import AnsibleFileNotFound, AnsibleOptionsError
from ansible.utils.display import Display

from pmitogen import toggles
from pmitogen.ansible import become as become_requests
from pmitogen.ansible import shell
from pmitogen.ansible.ansiballz import parse_ansiballz
from pmitogen.ansible.errors import LEGACY_PIPELINING, NeedsBecomeWrapper, NoInterpreter, RemoteFailure
from pmitogen.ansible.hub_session import HUB_OPTIONS, SENT_AHEAD, HubSession, is_logged, is_verbose, verbose_output
from pmitogen.ansible.options.register_shell import register_shell
from pmitogen.ansible.preload import shared_state
from pmitogen.ansible.progress import Progress, name_transfer
from pmitogen.ansible.request_values import (
    builtin_value,
    command_request,
    operation_request,
    signal_message,
    split_command,
    wire_env,
)
from pmitogen.ansible.task_variables import TaskVariables
from pmitogen.protocol.framing import from_wire, to_wire
from pmitogen.target.freshness import is_startup_variable
from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from ansible.plugins.become import BecomeBase
    from ansible.plugins.shell import ShellBase

    from pmitogen.ansible.in_turn import RequestsInTurn
    from pmitogen.protocol.messages_from_client import Become, Options
    from pmitogen.protocol.requests import ClientRequest

display = Display()
ExecResult = tuple[int, bytes, bytes]

USE_LOGIN_SHELL = ""  # as argv[0]: the login shell of the account
MAX_INLINE_FILE = 256 << 10  # bytes; a file up to this size is sent inside one request


class Connection(TaskVariables):
    """The connection of one host, as a worker sees it: turns Ansible's calls into requests to the hub."""

    # The protocol's name, as in Ansible's ssh plugin: ``ansible.posix.synchronize`` and others check that a host is reached
    # over SSH, read the options of that plugin, and start ssh themselves.
    transport = "ssh"
    has_pipelining = True
    has_tty = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hub_session = HubSession(
            self._hub_options,
            self._host,
            self._become_request,
            self._hub_count,
            self._configured_interpreter,
            lambda: self._becomes,
        )
        if multiprocessing.parent_process() is not None and toggles.preload_enabled():
            gc.freeze()  # a task's process is short: a garbage collection would only copy pages shared with the parent
        self._hub_session.label(task_id=str(kwargs.get("task_uuid") or "").rpartition("-")[2])  # the rest is the same for all
        register_shell()  # the base class loads the shell plugin
        super().__init__(*args, **kwargs)
        if not getattr(self._shell, "_IS_WINDOWS", False):
            self._shell: ShellBase = shell.record(self._shell)
            self._shell.is_becoming = lambda: self._become_is_native
        self._task = ""  # the task's name, where the hub logs it
        self._become_fields: Become | None = None
        self._native_become: bool | None = False  # None: decided when the plugin has its options
        self._in_own_session = False  # True: wrapped commands run in their own session, without the login account's interpreter

    # The interface that Ansible calls

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def set_options(
        self,
        task_keys: Mapping[str, Any] | None = None,
        var_options: Mapping[str, Any] | None = None,
        direct: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the options. Ansible calls this again for each item of a loop.

        To decide whether to pipeline, ansible-core before 2.19 reads the option, and later releases call the method below.
        """
        super().set_options(task_keys, var_options, direct)
        if self._options.get("jump_credentials"):
            from pmitogen.ansible.masking import mask_values

            mask_values(self._options["jump_credentials"])
        self._hub_session.options_changed()
        if LEGACY_PIPELINING:
            self.set_option("pipelining", True)
        task = (task_keys or {}).get("name")
        self._task = str(task or "") if is_logged() else ""
        self._hub_session.label(task=task)
        self._hub_session.mark("options")

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """Return True if modules can be piped: not async ones, nor if remote files are to remain on the target.

        Ansible calls this immediately before it builds a module's payload, so the hub is started, if necessary, and connects
        meanwhile.
        """
        self._hub_session.connect_early()
        if not shared_state.current.payloads_restored and toggles.preload_enabled():
            from pmitogen.ansible.preload import payload_cache

            payload_cache.restore(shared_state.current)
        if wrap_async or constants.DEFAULT_KEEP_REMOTE_FILES:  # ansible-core 2.19 does not look at the latter itself
            return False
        return not self._becomes or self._become_is_native or bool(getattr(self.become, "pipelining", True))

    def _take_variables(self, variables: Mapping[str, Any]) -> None:
        super()._take_variables(variables)
        self._hub_session.label(host=variables.get("inventory_hostname"))

    def set_become_plugin(self, plugin: BecomeBase) -> None:
        """Take over sudo, su and doas: their commands arrive unwrapped, because the hub runs them in that account.

        Ansible calls this for each item of a loop, because each may become another user.
        """
        super().set_become_plugin(plugin)
        self._become_fields = None
        self._native_become, self._in_own_session = None, False
        if plugin is not None:
            become_requests.take_over(plugin, LEGACY_PIPELINING, lambda: self._become_is_native)

    @property
    def _become_is_native(self) -> bool:
        """Return True if the hub enters the task's account. Known once the become plugin has its options."""
        if self._native_become is None:
            self._native_become = self._becomes and become_requests.supports(self.become)
        return self._native_become

    @property
    def _becomes(self) -> bool:
        """Return True if the task becomes another account than the login account. Requires that the options are set."""
        return self.become is not None and become_requests.changes_account(self.become, self.get_option("remote_user"))

    def exec_command(self, cmd: str, in_data: bytes | str | None = None, sudoable: bool = True) -> ExecResult:
        """Run a command, or a file operation if the text is one of Ansible's known commands. Returns (rc, stdout, stderr)."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if isinstance(in_data, str):
            in_data = in_data.encode("utf-8", "surrogateescape")
        sh_argv = split_command(cmd)
        operation = getattr(self._shell, "operations", {}).get(sh_argv[2].strip()) if sh_argv else None
        is_unwrapped = self._become_is_native  # native become: the become plugin has not wrapped the command
        try:
            if isinstance(operation, shell.Module):
                result = self._run_module(operation, in_data)
                if result is not None:
                    return result
            elif operation is not None and in_data is None:
                return self._run_operation(operation)
        except NeedsBecomeWrapper:
            self._leave_become_to_plugin()
        argv = sh_argv or ["/bin/sh" if is_unwrapped else USE_LOGIN_SHELL, "-c", cmd]
        if self._becomes and sudoable and not self._become_is_native:
            return self._wrap_and_run(sh_argv, cmd, in_data) if is_unwrapped else self._exec_wrapped(argv, in_data)
        tty = not in_data and sudoable and bool(self.get_option("use_tty")) and not isinstance(operation, shell.Module)
        try:
            return self._run(command_request(argv, tty), in_data or b"", become=sudoable)
        except (NeedsBecomeWrapper, NoInterpreter) as exc:
            if not is_unwrapped or not sudoable:
                raise
            if isinstance(exc, NeedsBecomeWrapper):
                self._leave_become_to_plugin()
            return self._wrap_and_run(sh_argv, cmd, in_data)  # no usable Python there, but the command itself may not need one

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller to the target, as the task's account."""
        super().put_file(in_path, out_path)
        display.vvv(one_line(f"PUT {in_path} TO {out_path}"), host=self._host())
        try:
            stream = open(os.fsencode(in_path), "rb")
        except FileNotFoundError:
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}") from None
        with stream:
            try:
                self._put(stream, out_path)
            except NeedsBecomeWrapper:
                self._leave_become_to_plugin()
                stream.seek(0)
                self._put(stream, out_path)

    def _put(self, stream: IO[bytes], out_path: str) -> None:
        state = os.fstat(stream.fileno())
        header: ClientRequest = {
            "op": "put",
            "path": to_wire(out_path),
            "mode": state.st_mode & 0o777,
            "label": f"failed to transfer file to {out_path}",
        }
        if state.st_size <= MAX_INLINE_FILE:
            self._hub_session.request({**header, "ack_early": True}, stream.read())
        else:
            watched = Progress(stream, name_transfer("PUT", out_path, self._play_context.no_log), self._host(), state.st_size)
            self._hub_session.stream_out({**header, "size": state.st_size}, watched)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file to the controller, atomically. A new file gets the original's mode, as with sftp's ``get``."""
        super().fetch_file(in_path, out_path)
        from pmitogen.util.atomic_file import atomic_write

        display.vvv(one_line(f"FETCH {in_path} TO {out_path}"), host=self._host())
        modes: list[int] = []
        header: ClientRequest = {"op": "get", "path": to_wire(in_path), "label": f"failed to transfer file from {in_path}"}
        with atomic_write(out_path, lambda: (modes[0] if modes else 0o666) & 0o777 | 0o200) as stream:
            sink = Progress(stream, name_transfer("FETCH", in_path, self._play_context.no_log), self._host()).write
            try:
                answer = self._hub_session.request(header, sink=sink).header
            except NeedsBecomeWrapper:
                self._leave_become_to_plugin()
                answer = self._hub_session.request(header, sink=sink).header
            modes += [answer["mode"]] if "mode" in answer else []

    def reset(self) -> None:
        """Close this host's connection, if there is one; never makes one."""
        self.close()
        self._hub_session.reset()

    def close(self) -> None:
        """Disconnect from the hub, which keeps the host's connection."""
        self._hub_session.close()
        self._connected = False

    def requests_in_turn(self) -> contextlib.AbstractContextManager[RequestsInTurn]:
        """Return a context in which modules can be sent ahead of their turn."""
        from pmitogen.ansible.in_turn import requests_in_turn

        return requests_in_turn(self._hub_session)

    # Operations

    def _run_module(self, module: shell.Module, in_data: bytes | None) -> ExecResult | None:
        """Run a recognised payload in the account's warm interpreter; None if it is not one."""
        if not in_data or module.command or module.arguments:
            return None
        self._hub_session.mark("prepare")
        payload = parse_ansiballz(in_data)
        python = module.interpreter.split()
        if payload is None or not python:
            return None
        early = {
            name: value
            for name, value in module.env
            if is_startup_variable(name) or name == "PATH" and not python[0].startswith("/")
        }
        header: ClientRequest = {
            "op": "run",
            "archive": payload.archive_name,
            "module": payload.module_name,
            "generation": payload.generation,
            "profile": payload.profile,
            "nofile": payload.rlimit_nofile,
            "python": [to_wire(argument) for argument in python],
            "env": wire_env(dict(module.env)),
        }
        if payload.keywords:
            header["keywords_size"] = len(payload.keywords)
        if early:
            header["python_env"] = wire_env(early)
        try:
            return self._run(header, payload.params + payload.keywords, payload.archive)
        except NoInterpreter:
            return None  # run as a command, it fails with the shell's message, which Ansible knows

    def _run_operation(self, operation: shell.ShellOperation) -> ExecResult:
        """Carry out the operation of the shell object. Raises AnsibleError."""
        if isinstance(operation, shell.NoOperation):
            return 0, b"", b""
        if isinstance(operation, shell.Home):
            answer = self._hub_session.request(
                {"op": "fs", "action": "home", "path": to_wire(operation.path)}, become=False
            ).header
            path = answer.get("path")
            return 0, (from_wire(path) if path is not None else operation.path.encode()) + b"\n", b""
        header = operation_request(operation, self._shell)
        try:
            answer = self._hub_session.request(header).header
        except RemoteFailure as exc:
            return 1, b"", f"{exc}\n".encode()
        if isinstance(operation, shell.Exists):
            return (0 if answer["exists"] else 1), b"", b""
        if isinstance(operation, shell.MakeTemp):
            return 0, operation.name.encode() + b"=" + from_wire(str(answer["path"])) + b"\n", b""
        return 0, b"", b""

    # Requests

    def _run(
        self, header: ClientRequest, body: bytes = b"", archive: bytes | memoryview = b"", *, become: bool = True
    ) -> ExecResult:
        """Make a request that ends with a process's exit."""
        streamed: tuple[list[bytes], list[bytes]] = ([], [])
        if self._task:
            header = {**header, "task": self._task}
        session = self._hub_session.in_turn or self._hub_session
        final = session.request(header, body, archive, become=become, streamed=streamed)
        answer, data = final
        self._hub_session.mark("")
        if final is SENT_AHEAD:
            return answer["rc"], data, b""
        out, rest = data[: answer["stdout_size"]], data[answer["stdout_size"] :]
        result = answer["rc"], b"".join(streamed[0]) + out, b"".join(streamed[1]) + rest + signal_message(header, answer)
        if is_verbose():
            verbose_output().show_result(display, result, bool(self._play_context.no_log), self._host())
        return result

    def _hub_options(self) -> Options:
        options: dict[str, object] = {}
        for name in HUB_OPTIONS:
            value = self.get_option(name)
            if value is not None and value != "":
                options[name] = builtin_value(value)
        options["host"] = self._host()
        if "password" not in options and self._play_context.password:
            options["password"] = str(self._play_context.password)
        return cast("Options", options)

    def _host(self) -> str:
        return str(self.get_option("host") or self._play_context.remote_addr)

    def _hub_count(self) -> int:
        """Return the number of hubs in this run. Raises AnsibleError."""
        hubs = int(self.get_option("hubs"))
        if hubs < 1:
            setting = "PMITOGEN_HUBS, or hubs in ansible.cfg's section pmitogen"
            raise AnsibleOptionsError(f"{setting}: {hubs}: expected 1 or more hubs; use 1, or remove the setting")
        return hubs

    def _become_request(self) -> Become | None:
        if not self._become_is_native:
            return None
        if self._become_fields is None:
            self._become_fields = become_requests.request(self.become, self._escalation_timeout())
        return self._become_fields

    # Other become plugins

    def _leave_become_to_plugin(self) -> None:
        """Stop using the hub's become, because it cannot enter the account: run each command in a session, as over ssh."""
        self._native_become, self._in_own_session = False, True

    def _wrap_and_run(self, sh_argv: list[str], cmd: str, in_data: bytes | None) -> ExecResult:
        """Wrap and run a command that was unwrapped for native become. *sh_argv*: *cmd* split, if that was possible."""
        wrapped = become_requests.build_wrapped(self.become, shlex.join(sh_argv) if sh_argv else cmd, self._shell)
        return self._exec_wrapped(["/bin/sh" if sh_argv else USE_LOGIN_SHELL, "-c", wrapped], in_data)

    def _exec_wrapped(self, argv: list[str], in_data: bytes | None) -> ExecResult:
        from pmitogen.ansible import become_dialogue

        tty = not in_data and bool(self.get_option("use_tty"))
        command: ClientRequest = {**command_request(argv, tty), "own_session": self._in_own_session}
        exchange = self._hub_session.interactive(command)
        return become_dialogue.run_wrapped(self.become, exchange, in_data, self._escalation_timeout())

    def _escalation_timeout(self) -> float:
        """Return the seconds that a become program may take: two more than the connection, as in Ansible's ssh plugin."""
        return float(self.get_option("timeout") or 10) + 2
