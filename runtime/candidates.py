"""The variants of a model that may exist on a host, and those that may not, with the reason.

Pure: the machine is asked by whoever calls. What can't be is listed too, so that a person sees
that it was thought of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.policies.schema import Policy, Variants
from scanflow_serve.runtime.backends.registry import AS_STORED, BACKENDS, CPU, Device, devices
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow.graph import Slot, model_alternative

# A precision below fp32 is worth a try where the processor computes in it.
NATIVE = {
    "bf16": ("amx_bf16", "avx512_bf16"),
    "fp16": ("asimdhp", "fphp"),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What there is of a model.

    Attributes:
        format: Of the source's own form.
        precision: Of its weights.
        converted: (backend, precision) -> None where it was converted for that, or why not;
            None where it is not known yet, so that anything may come.
    """

    format: str = "onnx"
    precision: str = "fp32"
    converted: Mapping[tuple[str, str], Refusal | None] | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A variant, and why it can't be, if it can't."""

    variant: Variant
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Candidates; those in `refused`, by id, are not to be measured."""

    candidates: tuple[Candidate, ...] = ()
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    @property
    def open(self) -> tuple[Candidate, ...]:
        """Return the candidates that are not refused."""
        return tuple(c for c in self.candidates if c.id not in self.refused)


Options = Mapping[str, Sequence[Option]]  # by model name


def variants_of(
    name: str, policy: Policy, host: HostProfile, installed: Mapping[str, bool], stored: Stored
) -> tuple[Option, ...]:
    """Return the variants of model *name* that the policy asks for, or the defaults.

    By default: the backends by the file's precision, those below it that the host has, and, with
    ``calibration``, int8. What was not asked for and can't be is left out.

    Args:
        installed: Backend name -> whether its library is there.
        stored: Of the model's file.
    """
    wanted = policy.models[name].variants or Variants()
    precisions = wanted.precisions or _default_precisions(policy, stored)
    options: list[Option] = []
    for backend in wanted.backends:
        if (absent := _absent(backend, installed)) is not None:
            options.append(Option(Variant(name, backend, precisions[0]), absent))
            continue
        here = devices(backend, host.accelerators)
        for device, refusal in _lacking(backend, wanted.devices or (), here):
            options.append(Option(Variant(name, backend, precisions[0], device), refusal))
        for device in here:
            if device_allowed(wanted, device):
                for precision in precisions:
                    variant = Variant(name, backend, precision, device)
                    options += _on_device(variant, here[device], wanted, host, stored)
    return tuple(options)


def conversions(
    name: str, policy: Policy, host: HostProfile, installed: Mapping[str, bool], stored: Stored
) -> tuple[tuple[str, str], ...]:
    """Return the (backend, precision) that model *name* is to be converted for.

    Those of which the backend needs a file of its own, and in which a device of *host* computes.
    """
    wanted = policy.models[name].variants or Variants()
    precisions = wanted.precisions or _default_precisions(policy, stored)
    return tuple(
        (backend, precision)
        for backend in wanted.backends
        if backend in BACKENDS and installed.get(backend, False)
        for precision in precisions
        if _needs_file(backend, precision)
        and precision != stored.precision
        and stored.format in BACKENDS[backend].formats
        and any(
            _computes(device, precision, host)
            for name, device in devices(backend, host.accelerators).items()
            if device_allowed(wanted, name)
        )
    )


def device_allowed(wanted: Variants, device: str) -> bool:
    """Return whether the policy lets *device* run the model; its number, if any, is free."""
    return not wanted.devices or device.partition(".")[0] in wanted.devices


def _on_device(
    variant: Variant, device: Device, wanted: Variants, host: HostProfile, stored: Stored
) -> list[Option]:
    refusal = _refusal(variant, device, host, stored)
    if refusal is None and variant.device != CPU:
        return [Option(variant)]  # its threads are not ours
    if refusal is None:
        return _threaded(variant, wanted.threads, host.cpu.cores)
    expected = variant.device == CPU and variant.precision in (stored.precision, "int8")
    return [Option(variant, refusal)] if wanted.precisions or expected else []


def references_of(
    name: str, options: Sequence[Option], installed: Mapping[str, bool], stored: Stored
) -> tuple[Variant, ...]:
    """Return the variants that run the file as it stands, best first: others are held to them.

    Those among *options*, onnxruntime's and those with few threads first; if the policy allows
    none, one that only serves to compare.
    """
    order = list(BACKENDS)
    able = [
        option.variant
        for option in options
        if option.refusal is None
        and option.variant.precision == stored.precision
        and option.variant.device == CPU  # an accelerator's arithmetic is what is in question
    ]
    if not able:
        able = [
            Variant(name, backend, stored.precision)
            for backend, entry in BACKENDS.items()
            if installed.get(backend, False) and stored.format in entry.formats
        ]
    return tuple(sorted(able, key=lambda variant: (order.index(variant.backend), variant.threads)))


def thread_counts(cores: float) -> tuple[int, ...]:
    """Return the thread counts worth measuring: powers of two, and what is granted.

    >>> thread_counts(6), thread_counts(0.5)
    ((1, 2, 4, 6), (1,))
    """
    granted = max(1, int(cores))
    powers = {1 << n for n in range(granted.bit_length())}
    return tuple(sorted(powers | {granted}))


def alone(options: Options) -> Listing:
    """Return each model by itself as candidates ``model:NAME:VARIANT``."""
    return _listing(
        (model_alternative(name).name, option) for name in options for option in options[name]
    )


def direct(runs: Mapping[str, Sequence[Slot]], options: Options) -> Listing:
    """Return the candidates of runs with one slot or none, by run name.

    Every model on the first backend comes before any on the second, so that a budget which
    runs out has seen all models.
    """
    pairs: list[tuple[str, Option]] = []
    empty = tuple(Candidate(run, ()) for run, slots in runs.items() if not slots)
    for run, slots in runs.items():
        if len(slots) == 1:
            pairs += [(run, option) for name in slots[0].models for option in options[name]]
    kinds = list(dict.fromkeys(_kind(option.variant) for _, option in pairs))
    pairs.sort(key=lambda pair: kinds.index(_kind(pair[1].variant)))
    listing = _listing(pairs)
    return replace(listing, candidates=empty + listing.candidates)


def failed(options: Sequence[Option], reason: str) -> tuple[Option, ...]:
    """Return *options* refused, because the model's file can't be used."""
    refusal = Refusal("failed", reason)
    return tuple(Option(each.variant, each.refusal or refusal) for each in options)


def _kind(variant: Variant) -> tuple[str, str, str]:
    return variant.backend, variant.device, variant.precision


def _listing(pairs: Iterable[tuple[str, Option]]) -> Listing:
    candidates: dict[str, Candidate] = {}
    refused: dict[str, Refusal] = {}
    for run, option in pairs:
        candidate = Candidate(run, (option.variant,))
        candidates[candidate.id] = candidate
        if option.refusal is not None:
            refused[candidate.id] = option.refusal
    return Listing(tuple(candidates.values()), refused)


def _default_precisions(policy: Policy, stored: Stored) -> list[str]:
    if stored.precision in AS_STORED:
        return [stored.precision]
    int8 = ["int8"] if policy.calibration is not None else []
    return list(dict.fromkeys([stored.precision, "fp32", "bf16", "fp16", *int8]))


def _absent(backend: str, installed: Mapping[str, bool]) -> Refusal | None:
    if backend not in BACKENDS:
        return Refusal("not_built", f"backend {backend!r} is not part of this version")
    if installed.get(backend, False):
        return None
    error = MissingExtraError(f"backend {backend!r}", BACKENDS[backend].extra)
    return Refusal("not_installed", str(error))


def _lacking(
    backend: str, wanted: Sequence[str], here: Mapping[str, Device]
) -> Iterator[tuple[str, Refusal]]:
    """Yield the devices that the policy asks for and *backend* does not have *here*."""
    has, kinds = ", ".join(here), {device.name for device in here.values()}
    known = [device.name for device in BACKENDS[backend].devices.values()]
    for device in wanted:
        if device in known and device not in kinds:
            yield device, _unsupported(f"{backend} finds no {device} on this host, only {has}")
    if wanted and not set(known) & set(wanted):
        does = ", ".join(known)
        yield wanted[0], _unsupported(f"{backend} never runs on {wanted[0]}, only on {does}")


def _refusal(variant: Variant, device: Device, host: HostProfile, stored: Stored) -> Refusal | None:
    """Return why *variant* can't be made from the file on this host."""
    entry, precision = BACKENDS[variant.backend], variant.precision
    if stored.format not in entry.formats:
        formats = " or ".join(sorted(entry.formats))
        return _unsupported(f"{variant.backend} loads {formats}, the file is {stored.format}")
    if precision not in device.precisions:
        able = ", ".join(sorted(device.precisions))
        return _unsupported(f"{variant.backend} computes in {able} on {variant.device}")
    if precision == stored.precision:
        return None
    made = _needs_file(variant.backend, precision)
    if not made and (stored.precision in AS_STORED or not entry.casts):
        return _unsupported(f"{variant.backend} runs this {stored.precision} file as it is stored")
    if not _computes(device, precision, host):
        instead = "; w16 stores weights in it, and computes in fp32" if precision == "fp16" else ""
        return _unsupported(
            f"this processor does not compute in {precision}: it has none of "
            f"{', '.join(NATIVE[precision])}{instead}"
        )
    return _conversion(variant, stored) if made else None


def _needs_file(backend: str, precision: str) -> bool:
    """Return whether *backend* runs *precision* from a file that was made for it."""
    return precision in AS_STORED or (precision == "fp16" and not BACKENDS[backend].casts)


def _computes(device: Device, precision: str, host: HostProfile) -> bool:
    """Return whether *device* has arithmetic for *precision*; a CPU may, by its features."""
    if precision not in device.precisions:
        return False
    native = NATIVE.get(precision)
    return device.name != CPU or native is None or bool(set(native) & set(host.cpu.features))


def _conversion(variant: Variant, stored: Stored) -> Refusal | None:
    if stored.converted is None:
        return None
    missing = _unsupported(f"it was not converted to {variant.precision} for {variant.backend}")
    return stored.converted.get((variant.backend, variant.precision), missing)


def _threaded(variant: Variant, wanted: Sequence[int] | None, cores: float) -> list[Option]:
    granted = thread_counts(cores)[-1]
    return [
        Option(
            replace(variant, threads=count),
            None
            if count <= granted
            else _unsupported(f"{count} threads asked for, but the host grants {cores:g} cores"),
        )
        for count in dict.fromkeys(wanted or thread_counts(cores))
    ]


def _unsupported(reason: str) -> Refusal:
    return Refusal("unsupported", reason)
