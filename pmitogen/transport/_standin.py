"""Logging in with a key file or a password, no more."""

from __future__ import annotations

import os
import time

import paramiko

from pmitogen.errors import AuthenticationError
from pmitogen.flags.settings import Settings
from pmitogen.transport.client import ClientTransport
from pmitogen.transport.credentials import Credentials


def authenticate(transport: ClientTransport, settings: Settings, credentials: Credentials, *, deadline: float) -> None:
    transport.auth_timeout = deadline - time.monotonic()
    for path in settings.identityfile:
        if os.path.exists(path):
            try:
                transport.auth_publickey(settings.user, paramiko.PKey.from_path(path))
                return
            except paramiko.AuthenticationException:
                pass
    if credentials.password:
        try:
            transport.auth_password(settings.user, credentials.password.reveal(), fallback=True)
            return
        except paramiko.AuthenticationException:
            pass
    raise AuthenticationError(f"{settings.user}@{settings.hostname} port {settings.port}: login refused")
