"""How much memory a child process may take that loads or converts somebody's model.

Without a bound the kernel would end whichever process it likes: often the one that serves.
"""

from __future__ import annotations

import re

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host

RESERVE_MB = 256.0  # for the process that waits for the child: a server with a small model
RESERVE = 0.1  # of what is granted, for the system; the larger of the two is kept
UNKNOWN_MB = 4096.0  # where neither the machine nor a control group tells
# How allocators put it, those that raise MemoryError and those that do not.
_EXHAUSTED = re.compile(
    r"MemoryError|bad[_ ]alloc|bad allocation|"
    r"(can.?t|cannot|could not|unable to|failed to) allocate",
    re.I,
)


def allowance_mb(host: HostProfile | None = None) -> float:
    """Return what one child may take, in MiB: what the host grants, less a reserve.

    Args:
        host: That it runs on; default: this one.
    """
    granted = (host or profile_host()).memory_mb
    if not granted:
        return UNKNOWN_MB
    reserve = max(RESERVE_MB, RESERVE * granted)
    return round(max(granted - reserve, granted / 2))


def is_exhausted(text: str) -> bool:
    """Return whether *text* of a failed child says that it got no more memory.

    >>> is_exhausted("RuntimeError: DefaultCPUAllocator: can't allocate memory: 8589934592 bytes")
    True
    """
    return _EXHAUSTED.search(text) is not None


def exhausted(what: str, memory_mb: float) -> ArtifactError:
    """Return the error of a child that asked for more than *memory_mb*; *what* it did."""
    return ArtifactError(
        f"{what} must stay within {memory_mb:g} MB of memory, but asked for more. "
        "Convert on a larger machine, and copy the artifact."
    )
