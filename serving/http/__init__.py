"""The protocols: one module each, on plain ASGI.

Hot routes never build a Starlette request: `serving.app` matches the path in a table, the
handler reads the body's chunks itself and returns a `Reply` of ready bytes. A Starlette route
costs 30-60 µs a request here; the whole path around a small model takes about 60.
"""
