"""gzip and deflate bodies, bounded both ways."""

from __future__ import annotations

import gzip
import zlib

from scanflow_serve.policies.errors import RequestError

GZIP = 16 + zlib.MAX_WBITS
ZLIB = zlib.MAX_WBITS
RAW = -zlib.MAX_WBITS
LEVEL = 1  # compressing is on the request's way; level 6 costs 3 times the CPU for 5 % less
WORTHWHILE = 4096  # bytes; below, compressing costs more than it saves
ACCEPTED = "gzip, deflate"


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Return *body* decompressed.

    Args:
        encoding: The ``Content-Encoding`` header.
        limit: Bytes; decompression stops there, so that a small body can't fill the memory.

    Raises:
        RequestError: 413 too long, 400 broken, 415 unknown encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name in ("gzip", "x-gzip"):
        return _inflate(body, GZIP, name, limit)
    if name == "deflate":
        # RFC 9110 says zlib; many clients send the bare stream. The first byte's low nibble
        # tells: 8 is zlib's only method.
        return _inflate(body, ZLIB if body[:1] and body[0] & 15 == 8 else RAW, name, limit)
    raise RequestError(
        415, f"Content-Encoding must be one of gzip, deflate, identity, got {encoding[:60]!r}."
    )


def _inflate(body: bytes, wbits: int, name: str, limit: int) -> bytes:
    stream = zlib.decompressobj(wbits)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise RequestError(400, f"body must be {name}, as its header says: {error}.") from None
    if len(plain) > limit:
        raise RequestError(
            413, f"body must be <= {limit} bytes once decompressed, got more. Send fewer rows."
        )
    if not stream.eof:
        raise RequestError(400, f"body must be a complete {name} stream, got a part of one.")
    if stream.unused_data:
        raise RequestError(
            400, f"body must end with its {name} stream, got {len(stream.unused_data)} bytes more."
        )
    return plain


def accepted_encoding(header: str) -> str | None:
    """Return gzip or deflate if an ``Accept-Encoding`` header takes it, gzip first; else None.

    >>> accepted_encoding("br, gzip;q=0.5")
    'gzip'
    >>> accepted_encoding("gzip;q=0, identity") is None
    True
    """
    taken = set()
    for item in header.lower().split(","):
        name, _, weight = item.partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            taken.add(name.strip())
    return next((name for name in ("gzip", "deflate") if name in taken), None)


def deflate(body: bytes, encoding: str) -> bytes:
    """Return *body* compressed as *encoding*, gzip or deflate."""
    if encoding == "gzip":
        return gzip.compress(body, LEVEL, mtime=0)
    return zlib.compress(body, LEVEL)
