"""Handlers of a server's messages about one channel. Each checks its message, and changes that channel only. Transport thread.

Upstream's handlers read past the end of a short message as zeros, and take data, windows and requests without a limit.
"""

from __future__ import annotations

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message

from pmitogen.transport.keys.wire import PacketReader
from pmitogen.transport.paramiko_ext.channel import Channel, ExitSignal
from pmitogen.util import peer_text

MAX_WINDOW = 0xFFFFFFFF  # bytes; RFC 4254 section 5.2
MAX_SIGNAL_NAME = 32  # characters
STDERR = 1  # SSH_EXTENDED_DATA_STDERR


def on_request(channel: Channel, message: Message) -> None:
    """Handle a request from the server (transport thread)."""
    reader = PacketReader(message.get_remainder())
    kind, want_reply = reader.string(), reader.byte()
    known = kind in (
        b"exit-status",
        b"exit-signal",
        b"xon-xoff",
    )  # the last is the terminal's flow control, which has no effect here
    if channel.exit_reported or kind not in (b"exit-status", b"exit-signal"):
        channel.transport.count_useless("channel requests", reader.left)
    elif kind == b"exit-status":
        channel.exit_status = reader.u32()
        channel.status_event.set()
        channel.on_exit()
    else:
        name = peer_text.escape(reader.string(), MAX_SIGNAL_NAME)
        reader.byte()  # whether it dumped core
        channel.exit_signal = ExitSignal(name, peer_text.escape(reader.string()))
        channel.status_event.set()
        channel.on_exit()
    if want_reply:
        channel.reply(known)


def on_data(channel: Channel, message: Message) -> None:
    """Handle output (transport thread)."""
    channel.receive(_data(message), channel.in_buffer)


def on_extended_data(channel: Channel, message: Message) -> None:
    """Handle output on the error stream (transport thread)."""
    is_stderr = message.get_int() == STDERR
    if not is_stderr:
        channel.transport.count_useless("extended data of an unknown type")
    channel.receive(_data(message), channel.in_stderr_buffer if is_stderr else None)


def _data(message: Message) -> bytes:
    """Return the string at the end of a message. Upstream pads a short one with zeros."""
    size = message.get_int()
    data = message.get_remainder()
    if len(data) != size:
        raise paramiko.SSHException(f"the server sent a message with {len(data)} bytes of data, but a length of {size}")
    return data


def on_window_adjust(channel: Channel, message: Message) -> None:
    """Handle a larger window for sending (transport thread)."""
    nbytes = PacketReader(message.get_remainder()).u32()
    with channel.lock:
        if channel.out_window_size + nbytes > MAX_WINDOW:
            raise paramiko.SSHException("the server granted a window that is too large")
        channel.out_window_size += nbytes
        channel.out_buffer_cv.notify_all()
    if not nbytes:
        channel.transport.count_useless("window adjustments by nothing")


def on_success(channel: Channel, message: Message) -> None:
    """Handle a granted request (transport thread)."""
    channel._request_success(message)


def on_failure(channel: Channel, message: Message) -> None:
    """Handle a refused request (transport thread): upstream closes the channel; this stores the reason."""
    if channel.refusal_reason is None:
        channel.refusal_reason = "the server refused the request"
    channel._request_failed(message)


def on_eof(channel: Channel, message: Message) -> None:
    """Handle the end of the output (transport thread)."""
    channel._handle_eof(message)


def on_close(channel: Channel, message: Message) -> None:
    """Handle the close of *channel* by the server (transport thread). Its slot is free once our close is sent."""
    channel._handle_close(message)
    channel.transport.forget(channel)


HANDLERS = {
    MSG_CHANNEL_DATA: on_data,
    MSG_CHANNEL_EXTENDED_DATA: on_extended_data,
    MSG_CHANNEL_WINDOW_ADJUST: on_window_adjust,
    MSG_CHANNEL_REQUEST: on_request,
    MSG_CHANNEL_SUCCESS: on_success,
    MSG_CHANNEL_FAILURE: on_failure,
    MSG_CHANNEL_EOF: on_eof,
    MSG_CHANNEL_CLOSE: on_close,
}
