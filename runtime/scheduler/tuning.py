"""The scheduler's constants, each with its reason; the simulator varies them."""

from __future__ import annotations

from dataclasses import dataclass

# A thread hop costs about 50 us and a context switch; a call under this blocks the event loop
# for less than the loop's own share of a request.
INLINE_MS = 1.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """Constants that are no policy's business.

    Attributes:
        reserve_ms: Kept back from every deadline for writing the answer.
        margin: Factor on the time that the requests behind a batch will need.
        least_load: Share of the host's capacity that the mix plans with; the rest absorbs bursts.
        most_load: The same where arrivals are so even that their waits are short.
        in_hand: Share of a deadline, or a full call, that must be left behind a batch for surges.
        call_share: Of a deadline that one call may take, so that a request can wait for another.
        fast_s: Span of the rate that follows a surge.
        slow_s: Span of the rate that outlasts a lull.
        least_change: In load, below which the mix stays as it is.
        inline_ms: A call up to this runs where requests are read, one at a time.
        overhead_ms: Cost of a request beside inference, on the same cores.
        backoff_s: Pause after a variant's first failure.
        longest_backoff_s: Pause at most.
        failures: In a row, after which a variant pauses although no other did better.
    """

    reserve_ms: float = 0.5
    margin: float = 1.2
    least_load: float = 0.85
    most_load: float = 0.95
    in_hand: float = 0.5
    call_share: float = 0.5
    fast_s: float = 0.5
    slow_s: float = 4.0
    least_change: float = 0.03
    inline_ms: float = INLINE_MS
    overhead_ms: float = 0.0
    backoff_s: float = 1.0
    longest_backoff_s: float = 60.0
    failures: int = 3
