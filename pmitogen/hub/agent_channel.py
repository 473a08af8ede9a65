"""Frames between the hub and one host's agent, and the payload contents sent ahead of them.

Small frames go through one compressed stream in each direction, in which a repeated task takes a few dozen bytes; larger frames
are sent uncompressed. Every message contains exactly one frame. A content is sent once for all accounts of a host. Everything
here runs on the hub's I/O thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from pmitogen.errors import UsageError
from pmitogen.hub.back_pressure import OUTPUT_HIGH, OUTPUT_LOW
from pmitogen.hub.blob_store import BlobStore
from pmitogen.hub.login import BootChannel
from pmitogen.hub.mitogen_router import Router
from pmitogen.protocol import framing, strict_json
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.gate import Gate
from pmitogen.protocol.limits import COMPRESS_BELOW, TARGET_BODY, TARGET_HEADER, TARGET_MESSAGE, TARGET_UNPACKED
from pmitogen.protocol.mitogen_messages import HEADER as MESSAGE_HEADER
from pmitogen.protocol.operations import Op

if TYPE_CHECKING:
    from pmitogen.protocol.messages_from_agent import FromAgent
    from pmitogen.protocol.messages_to_agent import ToAgent
    from pmitogen.protocol.requests import RequestHeader


class AgentChannel:
    """The channel to one agent: compresses, sends, receives and checks frames. I/O thread.

    :param router: sends Mitogen messages.
    :param blobs: the payload contents of the run.
    """

    def __init__(self, router: Router, blobs: BlobStore) -> None:
        self._router, self._blobs = router, blobs
        self.booting: BootChannel | None = None
        self.reset()

    def open(self, booting: BootChannel, codec: str) -> None:
        """Send to the agent that starts on this channel. *codec*: how contents are packed (see BlobStore.compress)."""
        self.booting, self._codec = booting, codec

    def reset(self) -> None:
        """Forget the agent and everything that was sent to it."""
        self.booting = None
        self._codec = "zlib"
        self._sent: set[str] = set()
        # Made with the first frame, because they take much memory.
        self._pack = None  # type: zlib._Compress | None
        self._unpack = None  # type: zlib._Decompress | None
        self._gate = Gate()

    @property
    def queued(self) -> int:
        """Bytes that the host has not taken yet."""
        return self.booting.stream.writer.queued if self.booting is not None else 0

    def send(self, header: ToAgent, body: bytes) -> None:
        """Send a frame, if there is an agent. Raises ProtocolError if it breaks a window."""
        if self.booting is not None:
            self._gate.on_sent(header, len(body))
            data, packed = framing.encode_frame(dict(header), body), len(body) < COMPRESS_BELOW
            if packed:
                pack = self._pack = self._pack or framing.new_compressor()
                data = pack.compress(data) + pack.flush(zlib.Z_SYNC_FLUSH)
            self._router.send(self.booting.stream, self.booting.context_id, data, packed)
            if self._gate.output <= OUTPUT_LOW:
                self.booting.stream.resume()

    def read(self, data: bytes, packed: bool) -> tuple[FromAgent, bytes] | None:
        """Return the frame in a message of the agent; None: ignore it. Raises ProtocolError."""
        message_size = MESSAGE_HEADER.size + len(data)
        if packed:
            data = self._unpacked(data)
        elif len(data) > TARGET_MESSAGE:
            raise ProtocolError(f"a message of {len(data)} bytes")
        if len(data) < framing.PREFIX.size:
            raise ProtocolError("a message without a frame")
        head_size, body_size = framing.PREFIX.unpack_from(data)
        if head_size > TARGET_HEADER or body_size > TARGET_BODY:
            raise ProtocolError(f"a frame of {head_size}+{body_size} bytes")
        body_start = framing.PREFIX.size + head_size
        if body_start + body_size != len(data):
            raise ProtocolError(f"a message of {len(data)} bytes with a frame of {body_start + body_size}")
        header = strict_json.parse(data[framing.PREFIX.size : body_start], TARGET_HEADER)
        if not self._gate.admit(header, body_size, message_size):
            return None
        if self._gate.output > OUTPUT_HIGH and self.booting is not None:
            self.booting.stream.pause()
        return cast("FromAgent", header), data[body_start:]

    def _unpacked(self, data: bytes) -> bytes:
        unpack = self._unpack = self._unpack or framing.new_decompressor()
        try:
            frame = unpack.decompress(data, TARGET_UNPACKED)
        except zlib.error:
            raise ProtocolError("a message that cannot be decompressed") from None
        if unpack.unconsumed_tail:
            raise ProtocolError(f"a compressed message of more than {TARGET_UNPACKED} bytes")
        if unpack.eof:
            raise ProtocolError("the end of the compressed stream")
        return frame

    def send_missing_blobs(self, header: RequestHeader) -> str:
        """Send the contents that the host lacks of a request's payload; return the manifest. Raises UsageError."""
        manifest: str | None = header.get("manifest") or self._blobs.manifest_of(header["archive"])
        if manifest is None:
            raise UsageError("a reference to a payload that was not sent")
        missing = self._blobs.members(manifest) - self._sent
        if missing:
            self._send_blobs(missing)
            self._sent |= missing
        return manifest

    def resend_blobs(self) -> None:
        """Send all contents again with zlib, because the target's Python lacks the better codec."""
        if self._codec != "zlib":
            self._codec = "zlib"
            self._send_blobs(self._sent)

    def _send_blobs(self, names: Collection[str]) -> None:
        self.send({"op": Op.BLOBS, "codec": self._codec}, self._blobs.compress(names, self._codec))
