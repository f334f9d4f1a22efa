"""Variants, what can be measured and chosen; and candidates, a variant for every slot of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"run": self.run, "variants": [variant.to_json() for variant in self.variants]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """Return the candidate whose JSON form is *value*."""
        variants = tuple(Variant.from_json(variant) for variant in value["variants"])
        return cls(run=value["run"], variants=variants)
