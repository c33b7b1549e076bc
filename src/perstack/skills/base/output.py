"""What a command wrote, of which only the two ends are kept if it is much."""

SHOWN_BYTES = 32 * 1024
"""Of each stream; half from the beginning and half from the end."""

HALF = SHOWN_BYTES // 2


class Output:
    """One stream of a command: counts everything, keeps what an answer can show."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take in what was read next."""
        self.size += len(data)
        room = HALF - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        # Trimmed only now and then, so that many small reads do not move the tail each time.
        if len(self._tail) > 2 * SHOWN_BYTES:
            del self._tail[:-HALF]

    @property
    def text(self) -> str:
        """The output, or its two ends with a note between them."""
        tail = self._tail[-HALF:]
        left_out = self.size - len(self._head) - len(tail)
        if left_out == 0:
            return _decode(self._head + tail)
        return (
            f"{_decode(self._head)}\n[... {left_out} bytes left out; redirect the output to a file "
            f"and read that in parts ...]\n{_decode(tail)}"
        )


def _decode(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
