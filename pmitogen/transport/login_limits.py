"""Time limits for each step of a login, as in ssh.

ssh's ConnectTimeout limits each attempt at an address, and then the time until the server has sent its version
(``ssh_connect_direct``, ``kex_exchange_identification``). After that ssh waits for each packet as long as ServerAliveInterval
times ServerAliveCountMax (``ssh_packet_set_timeout``), and without limit if that is not set. A play must not wait without limit,
so there the limit is a little more than the time after which sshd itself ends a login (LoginGraceTime, 120 s).
"""

from __future__ import annotations

from pmitogen.flags.ssh.settings import Settings

CONNECT_TIMEOUT = 10.0  # seconds, where ConnectTimeout is not set; Ansible's default
ANSWER_TIMEOUT = 150.0  # seconds for each answer of a server
LOGIN_TIMEOUT = 600.0  # seconds for a whole login, including the user's answers
RETRY_TIME = 60.0  # seconds for further attempts, while the server turns connections away (MaxStartups)
SLOT_TIMEOUT = 1.0  # seconds to wait for another session to end before a further connection is made
START_TIMEOUT = 300.0  # seconds for the account's shell to start pmitogen's command: its start-up files may be slow


def connect_timeout(settings: Settings) -> float:
    """Return the seconds for an attempt at an address, up to the server's version."""
    return float(settings.connecttimeout or CONNECT_TIMEOUT)


def answer_timeout(settings: Settings) -> float:
    """Return the seconds for the key exchange, and then for each answer of the server during the login."""
    interval = settings.serveraliveinterval
    if interval is None:
        return ANSWER_TIMEOUT
    if not interval:
        return LOGIN_TIMEOUT
    return float(interval * max(1, settings.serveralivecountmax))
