"""Variants, what can be measured and chosen; and candidates, a variant for every slot of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VARIANT_ID = re.compile(
    r"(?P<model>[^/+]+)/(?P<backend>[^-@+]+)-(?P<precision>[a-z]+\d+)"
    r"(?:@(?P<device>[^+]+?))?x(?P<threads>\d+)"
)


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A model on a backend, at a precision, on a device, with a thread count."""

    model: str
    backend: str
    precision: str  # effective
    device: str = "CPU"
    threads: int = 1

    @property
    def id(self) -> str:
        """Return the id, ``MODEL/BACKEND-PRECISION[@DEVICE][xTHREADS]``.

        >>> Variant("digits-cnn", "openvino", "int8", threads=2).id
        'digits-cnn/openvino-int8x2'
        >>> Variant("net", "openvino", "fp16", device="GPU").id
        'net/openvino-fp16@GPUx1'
        """
        device = "" if self.device == "CPU" else f"@{self.device}"
        return f"{self.model}/{self.backend}-{self.precision}{device}x{self.threads}"

    @classmethod
    def from_id(cls, text: str) -> Variant:
        """Return the variant whose `id` is *text*.

        Raises:
            ValueError: *text* is not the id of a variant.

        >>> Variant.from_id("net/openvino-fp16@GPUx1").device
        'GPU'
        """
        match = _VARIANT_ID.fullmatch(text)
        if match is None:
            raise ValueError(f"must read MODEL/BACKEND-PRECISION[@DEVICE]xTHREADS, got {text!r}")
        model, backend, precision, device, threads = match.groups(default="CPU")
        return cls(model, backend, precision, device, int(threads))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "backend": self.backend,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Variant:
        """Return the variant whose JSON form is *value*."""
        return cls(**{key: value[key] for key in cls.__slots__})


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One way to run the target: a workflow (or sequence) with a variant in every model slot.

    Attributes:
        run: The workflow's name; for a sequence the names joined by ``>``.
        variants: In the order in which the run's slots stand; empty if it has no model slot.
    """

    run: str
    variants: tuple[Variant, ...]

    @property
    def id(self) -> str:
        """Return ``RUN:VARIANT[+VARIANT…]``.

        >>> Candidate("classify", (Variant("mlp", "onnxruntime", "fp32"),)).id
        'classify:mlp/onnxruntime-fp32x1'
        """
        return f"{self.run}:{self.variant_id}"

    @property
    def variant_id(self) -> str:
        """Return the variants' ids, joined by ``+``; what replies carry as ``variant``."""
        return "+".join(variant.id for variant in self.variants)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that fill the slots, in their order."""
        return tuple(variant.model for variant in self.variants)

    @property
    def threads(self) -> int:
        """Return the threads of all its variants together."""
        return sum(variant.threads for variant in self.variants)

    @classmethod
    def from_id(cls, text: str) -> Candidate:
        """Return the candidate whose `id` is *text*.

        Raises:
            ValueError: *text* is not the id of a candidate.

        >>> Candidate.from_id("model:mlp:mlp/onnxruntime-fp32x1").run
        'model:mlp'
        """
        run, colon, variants = text.rpartition(":")
        if not colon or not run:
            raise ValueError(f"must read RUN:VARIANT[+VARIANT...], got {text!r}")
        return cls(run, tuple(Variant.from_id(part) for part in variants.split("+") if part))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"run": self.run, "variants": [variant.to_json() for variant in self.variants]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """Return the candidate whose JSON form is *value*."""
        variants = tuple(Variant.from_json(variant) for variant in value["variants"])
        return cls(run=value["run"], variants=variants)
