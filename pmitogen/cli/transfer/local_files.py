"""Files of this machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from typing import IO

from pmitogen.cli.transfer.files import FileError, WriteOptions, Writer, part_name
from pmitogen.transport.sessions.sftp_packets import Attributes, Entry
from pmitogen.util import atomic_file, trusted_path

PIECE = 256 << 10  # bytes of one read


class LocalFiles:
    """See :class:`pmitogen.cli.transfer.files.Files`."""

    is_remote = False

    def stat(self, path: str) -> Attributes:
        with _translate_errors():
            return _attributes(os.stat(path))

    def entries(self, path: str) -> list[Entry]:
        with _translate_errors(), os.scandir(path) as listing:
            return [Entry(each.name, _attributes(each.stat(follow_symlinks=False))) for each in listing]

    def make_directory(self, path: str, mode: int) -> None:
        with _translate_errors():
            os.mkdir(trusted_path.resolve(path), mode)

    def set_attributes(self, path: str, attributes: Attributes) -> None:
        with _translate_errors(), _checked(trusted_path.resolve(path)) as real:
            if attributes.mode is not None:
                os.chmod(real, stat.S_IMODE(attributes.mode))
            if attributes.atime is not None and attributes.mtime is not None:
                os.utime(real, (attributes.atime, attributes.mtime))

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[_Reader]:
        with _translate_errors():
            stream = open(path, "rb", buffering=0)
        with stream:
            yield _Reader(stream)

    @contextlib.contextmanager
    def writing(self, path: str, options: WriteOptions) -> Iterator[Writer]:
        with _translate_errors():
            if path.endswith("/") or os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            real = trusted_path.resolve(path)
        if options.part_key is None or os.path.lexists(real) and not os.path.isfile(real):
            with _translate_errors(), atomic_file.atomic_write(path, lambda: options.mode) as stream:
                yield _Writer(stream, 0)
                _flush(stream, options)
        else:
            with _translate_errors(), _part(real, options.part_key, options) as writer:
                yield writer


@contextlib.contextmanager
def _checked(real: str) -> Iterator[int | str]:
    """Return *real*, or where other users could replace it meanwhile, its descriptor after a check. Raises UntrustedPath."""
    directory = os.stat(os.path.dirname(real))
    if not trusted_path.others_can_create(directory):
        yield real
        return
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        trusted_path.check_file(real, os.fstat(descriptor), directory)
        yield descriptor
    finally:
        os.close(descriptor)


class _Reader:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.attributes = _attributes(os.fstat(stream.fileno()))

    def pieces(self, offset: int) -> Generator[bytes, None, None]:
        with _translate_errors():
            self._stream.seek(offset)
        while True:
            with _translate_errors():
                piece = self._stream.read(PIECE)
            if not piece:
                return
            yield piece


class _Writer:
    def __init__(self, stream: IO[bytes], offset: int) -> None:
        self._stream = stream
        self.offset = offset

    def write(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            with _translate_errors():
                self._stream.write(piece)


@contextlib.contextmanager
def _part(real: str, key: str, options: WriteOptions) -> Iterator[_Writer]:
    """Write the part of the file *real*, from where an earlier run stopped; rename it at the end of the block."""
    directory, name = os.path.split(real)
    part = os.path.join(directory, part_name(name, key))
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise FileError(f"{part}: is not a file of this user; remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(f"{part}: another copy is writing it") from None
        if status.st_size > options.size:
            stream.truncate(0)
        yield _Writer(stream, stream.seek(0, os.SEEK_END))
        _flush(stream, options)
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(real)
            if old.st_uid == status.st_uid:
                os.fchmod(descriptor, old.st_mode & atomic_file.PRESERVED_MODE_BITS)
                os.rename(part, real)
                return
        os.fchmod(descriptor, options.mode & ~atomic_file.current_umask())
        os.rename(part, real)


def _flush(stream: IO[bytes], options: WriteOptions) -> None:
    stream.flush()
    if options.sync:
        os.fsync(stream.fileno())


def _attributes(status: os.stat_result) -> Attributes:
    times = int(status.st_atime), int(status.st_mtime)
    return Attributes(status.st_size, status.st_uid, status.st_gid, status.st_mode, *times)


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise the system's errors as FileError."""
    try:
        yield
    except FileError:
        raise
    except ValueError as error:  # a name that has NUL, or that the locale cannot encode
        raise FileError(str(error)) from None
    except OSError as error:
        is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise FileError(error.strerror or str(error), is_missing, isinstance(error, PermissionError)) from None
