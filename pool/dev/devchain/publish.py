"""The ZMQ publisher: `hashblock` as Bitcoin Core sends it, with its sequence number."""

from __future__ import annotations

import zmq

HIGH_WATER = 1000


class Publisher:
    """A PUB socket on loopback; messages are (topic, hash in display byte order, little-endian 32-bit sequence)."""

    def __init__(self, port: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        try:
            self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"ZMQ port {port}: {error}") from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._sequence = 0
        self.muted = False

    def hash_block(self, hash_le: bytes) -> None:
        """Publish a new tip. While muted the number is used up and nothing is sent: subscribers see a gap, as when a
        message is lost."""
        if not self.muted:
            self._socket.send_multipart([b"hashblock", hash_le[::-1], self._sequence.to_bytes(4, "little")])
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF

    def probe(self) -> None:
        """Send a message of topic `devprobe`: a subscriber that gets it knows that its subscription has arrived
        here."""
        self._socket.send_multipart([b"devprobe"])

    def close(self) -> None:
        """Close socket and context."""
        self._socket.close()
        self._context.term()
