"""Asks a running scanflow-serve to read digits; needs nothing but Python.

python client.py images/7.png images/3.png
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def predict(image: Path, url: str, key: str | None) -> dict[str, Any]:
    """Return the server's answer to one PNG or JPEG file."""
    kind = "image/jpeg" if image.suffix.lower() in {".jpg", ".jpeg"} else "image/png"
    headers = {"Content-Type": kind}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url}/predict", image.read_bytes(), headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def main() -> int:
    """Print a line for every image; return the exit status."""
    parser = argparse.ArgumentParser(description="Ask a running scanflow-serve to read digits.")
    parser.add_argument("images", nargs="*", type=Path, default=[HERE / "images" / "7.png"])
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--key", help="bearer key, where the server asks for one")
    options = parser.parse_args()
    for image in options.images:
        try:
            answer = predict(image, options.url, options.key)
        except urllib.error.HTTPError as error:
            print(f"{image}: {error.code} {error.read().decode(errors='replace')}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"{options.url}: {error}. Is the server running?", file=sys.stderr)
            return 1
        # One image is one row: a single label, a number where the policy gives no `labels`.
        print(f"{image}: {answer['label']}, by {answer['variant']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
