"""Inference sessions, one module a backend; `registry` names them without importing any."""
