"""Options that ``pmitogen ssh`` carries out, and that connections of plays and of the library refuse or ignore."""

from __future__ import annotations

FLAGS = {
    "D": "Serves SOCKS on the port.",
    "e": "The escape character of a terminal.",
    "f": "Goes to the background after the login.",
    "G": "Prints the configuration and exits.",
    "g": "GatewayPorts yes.",
    "L": "Forwards the port or socket.",
    "M": "Shares the connection at ControlPath.",
    "N": "Runs no command.",
    "n": "Reads nothing from standard input.",
    "O": "check, exit, stop, forward, cancel and proxy; other orders are refused.",
    "Q": "Prints the names of algorithms and exits.",
    "R": "Forwards the port or socket of the server.",
    "S": "ControlPath.",
    "s": "Requests a subsystem.",
    "T": "Requests no terminal.",
    "t": "Requests a terminal; twice: even without a local one.",
    "V": "Prints the version and exits.",
    "W": "Connects standard input and output to the port.",
}
KEYWORDS = {
    "ControlMaster": "Shares the connection with later commands; ask and autoask count as no.",
    "ControlPath": "The socket of a shared connection; none: neither that nor the connection of a hub is used.",
    "ControlPersist": "A process in the background keeps the connection for that time.",
    "DynamicForward": "Serves SOCKS on the port.",
    "EscapeChar": "The escape character of a terminal.",
    "ForkAfterAuthentication": "Goes to the background after the login.",
    "GatewayPorts": "Local forwardings listen on all addresses.",
    "LocalCommand": "Runs after the login, with PermitLocalCommand.",
    "LocalForward": "Forwards the port or socket.",
    "PermitLocalCommand": "Runs LocalCommand.",
    "PermitRemoteOpen": "The addresses that programs on the server may name for -R PORT (SOCKS).",
    "RemoteCommand": "Is the command.",
    "RemoteForward": "Forwards the port or socket of the server.",
    "RequestTTY": "As ssh.",
    "SessionType": "As ssh.",
    "StdinNull": "Reads nothing from standard input.",
    "StreamLocalBindMask": "The mode of forwarded sockets.",
    "StreamLocalBindUnlink": "Removes the file of a forwarded socket first.",
}
