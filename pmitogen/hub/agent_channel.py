"""What goes between the hub and one host's agent: frames, and the contents that payloads are made of.

Small frames go through one compressed stream each way, in which a repeated task costs a few dozen bytes; what is larger goes by
itself, as it is. A content is sent once, whichever accounts want it. Everything here happens on the hub's I/O thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator

from pmitogen.errors import UsageError
from pmitogen.hub.blob_store import Blobs
from pmitogen.hub.mitogen_router import Router
from pmitogen.hub.requests import Header
from pmitogen.hub.session import Booting
from pmitogen.target import frames

PACK_BELOW = 16 << 10  # bytes of body that go through the packed stream


class Wire:
    """See the head of this file. *blobs*: the contents of the run."""

    def __init__(self, router: Router, blobs: Blobs) -> None:
        self._router, self._blobs = router, blobs
        self.booting: Booting | None = None
        self.shut()

    def open(self, booting: Booting, codec: str) -> None:
        """Lead to the agent that comes up on this channel. *codec*: how contents are packed (see Blobs.pack)."""
        self.booting, self._codec = booting, codec

    def shut(self) -> None:
        """There is no agent, and what was sent went nowhere."""
        self.booting = None
        self._codec = "zlib"
        self._sent: set[str] = set()
        self._pack = zlib.compressobj(6)
        self._unpack = zlib.decompressobj()

    def send(self, header: Header, body: bytes) -> None:
        """Send a frame, if there is an agent."""
        if self.booting is not None:
            data, packed = frames.pack(header, body), len(body) < PACK_BELOW
            if packed:
                data = self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH)
            self._router.send(self.booting.stream, self.booting.context_id, data, packed)

    def read(self, data: bytes, packed: bool) -> Iterator[tuple[Header, bytes]]:
        """The frames in a message from the agent. Raises what zlib, json or frames raise for one that no agent of ours sends."""
        if packed:
            data = self._unpack.decompress(data, frames.MAX_HEADER + 8)
            if self._unpack.unconsumed_tail:
                raise frames.FrameError("packed message is over the limit")
        yield from frames.Reader().feed(data)

    def supply(self, header: Header) -> str:
        """Send what the host lacks of the payload that a request names; return its manifest. Raises UsageError."""
        manifest: str | None = header.get("man") or self._blobs.manifest_of(header["zip"])
        if manifest is None:
            raise UsageError("a payload was named that nobody sent")
        missing = self._blobs.members(manifest) - self._sent
        if missing:
            self._send_blobs(missing)
            self._sent |= missing
        return manifest

    def resend(self) -> None:
        """The target's Python lacks the better codec, and could read nothing so far."""
        if self._codec != "zlib":
            self._codec = "zlib"
            self._send_blobs(self._sent)

    def _send_blobs(self, names: Collection[str]) -> None:
        self.send({"op": "blobs", "codec": self._codec}, self._blobs.pack(names, self._codec))
