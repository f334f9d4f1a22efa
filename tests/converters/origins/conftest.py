from __future__ import annotations

from origin_worlds import cache, find, folder

__all__ = ["cache", "find", "folder"]
