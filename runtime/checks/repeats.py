"""Whether a row is one that came before: a frozen camera, a stuck sensor, a loop that resends."""

from __future__ import annotations

from collections import deque

from scanflow_serve.runtime.tensors import Array, Tensors

REMEMBERED = 256  # rows
# Values of a row that are looked at; of a larger one so many, evenly spread. Hashing all of a
# photograph takes as long as a small model.
LOOKED_AT = 4096


class Repeats:
    """The latest rows that were new, as fingerprints; called from one thread."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def seen(self, inputs: Tensors, rows: int) -> list[int]:
        """Return which of *rows* rows came before, in this request or lately; remember all."""
        found = []
        known, order = self._known, self._order
        for row, each in enumerate(fingerprints(inputs, rows)):
            if each in known:
                found.append(row)
                continue
            known.add(each)
            order.append(each)
        while len(order) > REMEMBERED:
            known.discard(order.popleft())
        return found


def fingerprints(inputs: Tensors, rows: int) -> list[int]:
    """Return a hash of each row over all inputs."""
    parts = [_hashes(array.reshape(rows, -1)) for array in inputs.values()]
    return parts[0] if len(parts) == 1 else [hash(each) for each in zip(*parts, strict=True)]


def _hashes(flat: Array) -> list[int]:
    if flat.shape[1] > LOOKED_AT:
        flat = flat[:, :: -(-flat.shape[1] // LOOKED_AT)]
    if flat.dtype.kind == "O":
        return [hash(tuple(row)) for row in flat.tolist()]
    width = flat.shape[1] * flat.itemsize
    whole = flat.tobytes()
    return [hash(whole[at : at + width]) for at in range(0, len(whole), width)]
