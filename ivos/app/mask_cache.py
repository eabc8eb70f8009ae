"""Masks in the packed form in which they are sent, as many as a number of bytes allows."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

_BYTES = 64 << 20


class MaskCache:
    """The packed masks that were used last.

    Args:
        max_bytes: how much is kept at most; the last mask is kept whatever its size.
    """

    def __init__(self, max_bytes: int = _BYTES) -> None:
        self._masks: OrderedDict[Hashable, bytes] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = threading.RLock()  # masks are decoded in threads

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep a mask, in place of an older one of the same key."""
        with self._lock:
            self.forget(key)
            self._masks[key] = data
            self._bytes += len(data)
            while self._bytes > self._max_bytes and len(self._masks) > 1:
                self._bytes -= len(self._masks.popitem(last=False)[1])

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return a mask, which `make` is called for where it is not kept."""
        data = self.find(key)
        if data is None:
            data = make()
            self.put(key, data)
        return data

    def find(self, key: Hashable) -> bytes | None:
        """Return a mask if it is kept."""
        with self._lock:
            data = self._masks.get(key)
            if data is not None:
                self._masks.move_to_end(key)
            return data

    def forget(self, key: Hashable) -> None:
        """Drop a mask if it is kept."""
        with self._lock:
            self._bytes -= len(self._masks.pop(key, b""))
