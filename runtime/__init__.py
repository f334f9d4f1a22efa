"""What decides: host profile, backends, artifacts, calibration, selection, scheduling, workflows.

Decisions are pure functions over frozen values; the world is read and touched at the edge.
"""
