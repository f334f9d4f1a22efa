"""What keeps other people's web pages out of a server that asks for no key.

Such a server listens on a loopback address, which a browser on the same machine reaches too. A
page from elsewhere can rebind its own name to 127.0.0.1 and then read replies, or post blindly.
The first is told by ``Host``, the second by ``Sec-Fetch-Site``, which no page can set.

Outcome: asked of every route, health too, exactly where the policy leaves ``serve.auth`` unset.
Price: a proxy in front must send a loopback ``Host``, or the policy says ``auth: none``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.exchange import shown

_LOOPBACK = re.compile(rb"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]*)?", re.IGNORECASE)
_CURE = "set serve.auth in the policy: keys, or none to let anyone in."


def refuse_strangers(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Refuse what a browser sends for a page from elsewhere; no ``Host`` is no browser.

    Raises:
        RequestError: 421, ``Host`` is no loopback name or address; 403, a page of another site
            posts.
    """
    host = headers.get(b"host")
    if host is not None and _LOOPBACK.fullmatch(host) is None:
        raise RequestError(
            421,
            "Host must be localhost, 127.0.0.0/8 or [::1] while the server asks for no key, got"
            f" {shown(host.decode('latin-1'))}. Use such an address, or {_CURE}",
        )
    if headers.get(b"sec-fetch-site") == b"cross-site" and method not in ("GET", "HEAD"):
        raise RequestError(
            403,
            f"{method[:20]} must not come from a page of another site while the server asks for"
            f" no key, got Sec-Fetch-Site: cross-site. Serve the page from localhost, or {_CURE}",
        )
