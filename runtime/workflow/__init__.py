"""Workflows as they run inside a request: a run's steps, compiled once into a flat pipeline.

`graph` resolves the policy's steps into nodes (pure), `slots`, `functions` and `combining` turn
one node each into a callable, `assembly` strings them together, `pipeline` is what serves.
"""
