"""Error messages in ssh's form, for users and for programs that parse them."""

from __future__ import annotations

import pmitogen.errors as errors
from pmitogen.flags.ssh.settings import Settings

USAGE = """\
usage: ssh [-46AaCgKkMNnqsTtVvXxYy] [-B bind_interface] [-b bind_address]
           [-c cipher_spec] [-D [bind_address:]port] [-E log_file]
           [-e escape_char] [-F configfile] [-I pkcs11] [-i identity_file]
           [-J destination] [-L address] [-l login_name] [-m mac_spec]
           [-O ctl_cmd] [-o option] [-P tag] [-p port] [-R address]
           [-S ctl_path] [-W host:port] [-w local_tun[:remote_tun]]
           destination [command [argument ...]]
       ssh [-Q query_option]
"""


def lines_for(error: errors.Error, settings: Settings | None) -> list[str]:
    """Return the lines to print for *error*. The last one is ssh's standard message, if it has one."""
    if not isinstance(error, errors.ConnectError) or settings is None:
        return [f"ssh: {error.message}"]
    place = f"{settings.endpoint}: "
    reason = error.message.removeprefix(place)
    if error.stage == "resolve":
        return [f"ssh: Could not resolve hostname {settings.hostname}: {reason}"]
    if error.stage == "tcp":
        return [f"ssh: connect to host {settings.hostname} port {settings.port}: {reason}"]
    if error.stage == "hostkey":
        return [f"ssh: {error.message}", "Host key verification failed."]
    if isinstance(error, errors.AuthenticationError):
        allowed = ",".join(error.allowed_methods) or "none"
        return [f"ssh: {error.message}", f"{settings.user}@{settings.hostname}: Permission denied ({allowed})."]
    return [f"ssh: {error.message}"]


def lost(settings: Settings, error: errors.ConnectionLost) -> list[str]:
    """Return the lines for a connection that ended before the command."""
    return [f"ssh: {error.message}", f"Connection to {settings.hostname} closed by remote host."]
