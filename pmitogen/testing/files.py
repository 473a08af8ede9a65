"""SFTP below one directory: a test that writes ``/etc/hosts`` leaves this machine's file alone."""

from __future__ import annotations

import os

import paramiko

from pmitogen.cli.demo.sftp import FileServer


class RootedFiles(FileServer):
    """Serves *root* as if it were ``/``. It follows links that lead elsewhere: it prevents accidents, not attacks."""

    def __init__(self, login: paramiko.ServerInterface, root: str) -> None:
        super().__init__(login)
        self._root = root

    def canonicalize(self, path: str) -> str:
        """Return *path* below the root. A path that this has returned before stays as it is."""
        absolute = os.path.normpath(os.path.join("/", path))
        if absolute == self._root or absolute.startswith(self._root + "/"):
            return absolute
        return self._root + absolute.rstrip("/")
