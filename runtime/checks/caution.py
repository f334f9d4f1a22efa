"""What is said where rows depend on one another, and what was promised can't hold."""

from __future__ import annotations

from scanflow_serve.runtime.checks.blocks import reference_rows_needed
from scanflow_serve.runtime.checks.statistics.dependence import dependence
from scanflow_serve.runtime.tensors import Array


def caution(where: str, values: Array, *, block: int = 0, spacing: float = 1.0) -> str:
    """Return why run lengths won't hold, and what to do; "" where nothing speaks against them.

    Args:
        where: Whose *values* they are.
        values: Of the calibration rows in their order in the reference, ranked, shape (values,);
            means of blocks where *block* says of how many rows.
        spacing: Reference rows from one value to the next, on average.
    """
    found = dependence(values)
    if not found.found:
        return ""
    wanted = int(found.block * spacing)
    said = (
        f"{where}: {'blocks' if block else 'reference rows'} resemble their neighbours "
        f"(correlation {found.correlation:.2f}, {found.rows} tell as much as "
        f"{max(1, round(found.rows / found.time))}), so that false alarms will come more often "
        "than expected_run_length says."
    )
    needed = reference_rows_needed(wanted)
    return (
        f"{said} Set block: {wanted}, with ordered: true and >= {needed} reference rows; or "
        "strata, where the hour of day or the sensor explains it. If their order means nothing, "
        "shuffle the rows."
    )
