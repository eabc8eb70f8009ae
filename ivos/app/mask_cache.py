"""A cache of packed masks, limited by the number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

_BYTES = 64 << 20


class MaskCache:
    """A cache of the most recently used packed masks.

    Args:
        max_bytes: Largest size of all masks together; the last mask is kept even if it is larger.
    """

    def __init__(self, max_bytes: int = _BYTES) -> None:
        self._masks: OrderedDict[Hashable, bytes] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = threading.RLock()  # needed because several threads use the cache

    def put(self, key: Hashable, data: bytes) -> None:
        """Add a mask; it replaces a mask of the same key."""
        with self._lock:
            self.forget(key)
            self._masks[key] = data
            self._bytes += len(data)
            while self._bytes > self._max_bytes and len(self._masks) > 1:
                self._bytes -= len(self._masks.popitem(last=False)[1])

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return a mask from the cache; if it is missing, call `make` and add the result."""
        data = self.find(key)
        if data is None:
            data = make()
            self.put(key, data)
        return data

    def find(self, key: Hashable) -> bytes | None:
        """Return a mask if it is in the cache, else None."""
        with self._lock:
            data = self._masks.get(key)
            if data is not None:
                self._masks.move_to_end(key)
            return data

    def forget(self, key: Hashable) -> None:
        """Remove a mask if it is in the cache."""
        with self._lock:
            self._bytes -= len(self._masks.pop(key, b""))
