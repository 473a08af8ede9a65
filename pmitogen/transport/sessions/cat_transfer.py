"""Transfer files through ``cat`` in the login shell, or in the ``/bin/sh`` that it runs, on a server without SFTP.

A script prints a token when it has done its work: another command that the server forces may succeed too. Programs run with
``LC_ALL=C``, so that their messages can be read.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from pmitogen.errors import Error, RemoteError
from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions import cat_errors, exec_command, shell_script
from pmitogen.transport.sessions.transfer_errors import FIFO, name_in, transfer_error
from pmitogen.util.peer_text import escape

REMOVE_TIMEOUT = 10.0  # seconds to remove the part of an interrupted upload
CREATE_TIMEOUT = 10  # seconds for a shell that was cut off while it started to create the part
CHECK_INTERVAL = 0.5  # seconds between looks for a cancellation, while the shell starts
MAX_MESSAGES = 4 << 10  # bytes of stderr that are kept for a message
Result = tuple[exec_command.ExitStatus, bytes, bytes]


class CatTransfer:
    """File transfer by ``cat``. Any thread; every method blocks, and raises RemoteError, ConnectError or ConnectionLost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Upload

    def put(
        self,
        pieces: Iterable[bytes],
        size: int | None,
        path: str,
        part: str,
        mode: int | None,
        label: str,
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Write *pieces*, *size* bytes together (None: unknown), to *part*, and rename that to *path*."""
        upload = _Upload(path, part, mode)
        if size is not None:
            self._conclude(self._run_for_part(upload, upload.write_and_place(size), pieces), upload, "done", path, label)
            return
        counted = _Counted(pieces)
        self._conclude(self._run_when_created(upload, counted, is_cancelled), upload, "created", path, label)
        self._conclude(self._run_for_part(upload, upload.place(counted.count), ()), upload, "done", path, label)

    def _conclude(self, result: Result, upload: _Upload, wanted: str, path: str, label: str) -> None:
        """Raise RemoteError unless the script has succeeded, and printed the word *wanted*."""
        if upload.has_printed("directory", result[1]):
            raise transfer_error(label, "EISDIR")
        if upload.has_printed("pipe", result[1]):
            raise transfer_error(label, "ENXIO")
        if upload.has_printed("cut", result[1]):
            raise transfer_error(label, "", "the host has got a part of the data only")
        self._check(result, path, True, label, upload.has_printed(wanted, result[1]))

    def _run_for_part(self, upload: _Upload, script: str, stdin: Iterable[bytes]) -> Result:
        """Run a script that removes the part itself when it fails. A cancelled one cannot: its shell may have been killed."""
        try:
            return exec_command.run(self._connection, script, stdin=stdin)
        except BaseException:
            self._remove(upload.remove)
            raise

    def _run_when_created(self, upload: _Upload, pieces: Iterable[bytes], is_cancelled: Callable[[], bool]) -> Result:
        """Write the part; take the first piece when the part exists, so that an interruption can remove it for certain."""
        output, messages = b"", b""
        has_begun = False
        try:
            with exec_command.Command(self._connection, upload.write, stdin=None) as command:
                patience = REMOVE_TIMEOUT
                while True:
                    try:
                        read = command.read(None if has_begun else CHECK_INTERVAL)
                    except TimeoutError:
                        if has_begun:  # the source's
                            raise
                        if is_cancelled() and (patience := patience - CHECK_INTERVAL) <= 0:
                            raise RemoteError("cancelled") from None
                        continue
                    if read is None:
                        return command.wait(), output, messages
                    output, messages = (output + read[0])[-MAX_MESSAGES:], (messages + read[1])[-MAX_MESSAGES:]
                    if not has_begun and upload.has_printed("created", output):
                        has_begun = True
                        command.feed(pieces)
        except BaseException:
            self._remove(upload.remove if has_begun else upload.remove_later)
            raise

    def _remove(self, script: str) -> None:
        with contextlib.suppress(Exception):
            exec_command.run(self._connection, script, timeout=REMOVE_TIMEOUT, slot_timeout=REMOVE_TIMEOUT)

    # Download

    def fetch(self, path: str, target: IO[bytes], label: str) -> int:
        """Copy the remote file *path* into *target*, and return its size."""
        got = 0
        messages = earlier = b""
        has_begun = False
        token = secrets.token_hex(8)
        mark = f"\n{token}\n".encode()  # output before it is that of start-up files, or of another command that the server forces

        def take(out: bytes, err: bytes) -> None:
            nonlocal got, messages, earlier, has_begun
            messages = (messages + err)[-MAX_MESSAGES:]
            if not has_begun:
                earlier, has_begun, out = _after(mark, earlier + out)
            target.write(out)
            got += len(out)

        quoted = shlex.quote(f"./{path}" if path.startswith("-") else path)
        command = f"echo; echo {token}; test ! -p {quoted} && env LC_ALL=C cat {quoted}"
        if not shell_script.is_plain(path):  # else the login shell need not run /bin/sh
            command = shell_script.line(
                f'echo; echo {token}; if test -p "$p"; then exit 1; fi; exec env LC_ALL=C cat "$p"', p=path
            )
        ended, _, _ = exec_command.run(self._connection, command, on_output=take)
        if ended.code == 1 and has_begun and not messages and not got:  # cat would have named a reason
            raise transfer_error(label, "EINVAL", FIFO)
        self._check((ended, b"", messages), path, False, label, has_begun)
        return got

    # Errors

    def _check(self, result: Result, path: str, writes: bool, label: str, has_run: bool) -> None:
        """Raise RemoteError for a failure. *has_run*: whether the output shows that the shell has run the command."""
        ended, _, messages = result
        if ended.code:
            name = name_in(messages.decode("utf-8", "replace")) or self._probe(path, writes)
            raise transfer_error(label, name, "" if name else escape(messages, keep_end=True) or f"status {ended.code}")
        if not has_run:
            raise transfer_error(label, "", "the login shell does not run commands")

    def _probe(self, path: str, writes: bool) -> str:
        try:
            script = cat_errors.probe(path, writes=writes)
            return cat_errors.probed_name(exec_command.run(self._connection, script, timeout=REMOVE_TIMEOUT)[1])
        except (Error, TimeoutError):
            return ""


class _Upload:
    """The scripts of one upload of *part*, which is renamed to *target*."""

    def __init__(self, target: str, part: str, mode: int | None) -> None:
        self._target, self._part, self._token = target, part, secrets.token_hex(8)
        self._umask = "umask 077; " if mode is not None else ""  # the part is private until it has its mode
        self._mode = "" if mode is None else f"{mode:o}"
        self._give_up = 'rm -f "$p" 2>/dev/null'

    def _line(self, script: str) -> str:
        return shell_script.line(script, p=self._part, t=self._target)

    def _print(self, word: str) -> str:
        return f"echo && echo {self._token} {word}"

    def has_printed(self, word: str, output: bytes) -> bool:
        """Return whether a script has printed *word*. A whole line: a forced command may print the script itself."""
        return f"{self._token} {word}".encode() in output.splitlines()

    @property
    def remove(self) -> str:
        """Remove the part."""
        return self._line('rm -f "$p"')

    @property
    def remove_later(self) -> str:
        """Remove the part when it appears, without waiting for that."""
        later = f'n=0; until rm "$p" || test $n -ge {CREATE_TIMEOUT}; do sleep 1; n=$((n+1)); done'
        return self._line(f"({later}) </dev/null >/dev/null 2>&1 &")

    @property
    def _begin(self) -> str:
        # Without SIGPIPE a script whose channel has been closed goes on, and removes the part; without SIGXFSZ cat says why.
        traps = 'trap "" PIPE; (trap "" XFSZ) 2>/dev/null && trap "" XFSZ'
        is_file = f'if test -d "$t"; then {self._print("directory")}; exit 1; fi'
        is_file += f'; if test -p "$t"; then {self._print("pipe")}; exit 1; fi'  # its opening would wait for a reader
        return f"LC_ALL=C; export LC_ALL; {traps}; {self._umask}{is_file}; "

    @property
    def write(self) -> str:
        """Create the part, print "created", and write the input to the part."""
        # Opened once: a part that is removed meanwhile does not appear again.
        written = f'{{ {{ {self._print("created")}; }} >&3 && cat; }} 3>&1 >"$p"'
        return self._line(f"{self._begin}{written} || {{ {self._give_up}; exit 1; }}")

    def place(self, size: int) -> str:
        """Rename the part if it has *size* bytes, and print "done"."""
        return self._line(f"LC_ALL=C; export LC_ALL; {self._placed(size)}")

    def write_and_place(self, size: int) -> str:
        """Write the input to the part, and rename that if it has *size* bytes."""
        written = f'cat >"$p" || {{ {self._give_up}; exit 1; }}'
        return self._line(f"{self._begin}{written}; {self._placed(size)}")

    def _placed(self, size: int) -> str:
        # A cut looks like an end of input to cat: only a part of the right size is the file.
        checked = (
            f'test $(wc -c <"$p") -eq {size} || {{ {self._give_up}; {self._print("cut")}; exit 1; }}; '
            f'if test -d "$t"; then {self._give_up}; {self._print("directory")}; exit 1; fi; '
        )
        known = 'test -f "$t" && { stat -c %a "$t" || stat -f %Lp "$t"; } 2>/dev/null'  # GNU and busybox; BSD and macOS
        renamed = f'm=$({known}) || m={self._mode}; test -z "$m" || chmod $m "$p" && mv -f "$p" "$t"'
        in_place = 'test -h "$t" || test -c "$t" || test -b "$t"'
        placed = f'if {in_place}; then cat "$p" >"$t" && rm -f "$p"; else {renamed}; fi'
        return f"{checked}{{ {placed}; }} && {{ {self._print('done')}; }} || {{ {self._give_up}; exit 1; }}"


class _Counted:
    """An iterator over pieces that counts their bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.count += len(piece)
            yield piece


def _after(mark: bytes, data: bytes) -> tuple[bytes, bool, bytes]:
    """Return what to search for *mark* with the next data, whether *data* has it, and the data after it."""
    _, found, rest = data.partition(mark)
    return (b"", True, rest) if found else (data[-len(mark) :], False, b"")
