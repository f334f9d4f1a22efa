"""The policy document, as pydantic models: one class a section, defaults beside their units.

`extra="forbid"` makes an unknown key an error; `translation` adds the nearest known key and the
place. What pydantic can't see (names that refer to each other, files, conditions) is checked
by `references`, `files` and `conditions`.

Every union is tagged, with tags that start with ``~`` and so can't be keys: an error is then
reported for the alternative that was meant, and its path leads to the value in the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

API_VERSION = "scanflow/v1"

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Condition: TypeAlias = Annotated[str, StringConstraints(min_length=1)]  # CEL, see `conditions`
Callable: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
]  # module:function
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
BackendName: TypeAlias = Literal["onnxruntime", "openvino", "torch"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "w16", "w8"]
DeviceName: TypeAlias = Literal["CPU", "GPU", "NPU", "CUDA", "ROCM"]
InputDtype: TypeAlias = Literal["float32", "float64", "int64", "int32", "uint8", "bool", "str"]
Prefer: TypeAlias = Literal["accuracy", "latency", "balanced"]
Metric: TypeAlias = Literal["accuracy", "balanced_accuracy", "f1_macro", "r2"]
Texts: TypeAlias = Annotated[
    Annotated[str, Tag("~one")] | Annotated[list[str], Field(min_length=1), Tag("~many")],
    Discriminator(lambda value: "~many" if isinstance(value, list) else "~one"),
]
Names: TypeAlias = Annotated[
    Annotated[Name, Tag("~one")] | Annotated[list[Name], Field(min_length=1), Tag("~many")],
    Discriminator(lambda value: "~many" if isinstance(value, list) else "~one"),
]
Combine: TypeAlias = str  # one of COMBINES, or module:function; checked by `references`
COMBINES = ("mean", "median", "max", "vote", "concat")


def _violation(rule: str, cure: str) -> PydanticCustomError:
    """Return an error in the words that `translation` passes on."""
    return PydanticCustomError("rule", "{rule}. {cure}", {"rule": rule, "cure": cure})


class Section(BaseModel):
    """A part of the document: frozen, and strict about its keys and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Variants(Section):
    """Which variants of a model may be made and measured."""

    backends: list[BackendName] = Field(min_length=1, default=["onnxruntime", "openvino"])
    precisions: list[Precision] | None = Field(
        default=None,
        description="Default: fp32, bf16/fp16 where the host has it, int8 with data. w16, w8: only "
        "weights are stored so.",
    )
    threads: list[Count] | None = Field(default=None, description="Default: searched.")
    devices: list[DeviceName] | None = Field(
        default=None, min_length=1, description="Default: the CPU, and all that the host has."
    )


class ModelInput(Section):
    """One input of a model whose source does not say what it takes."""

    shape: list[Annotated[int, Field(ge=-1)]] = Field(
        min_length=1, description="The first dimension is the batch; -1: any size."
    )
    dtype: InputDtype = Field(default="float32", description="As numpy names it; str: text.")


CONSENT = "I trust this file"  # loading a pickle runs what its author put into it


class Model(Section):
    """One trained network or estimator."""

    source: str = Field(description="ONNX file, OpenVINO IR, torch:module:factory, models:/…, …")
    weights: str | None = Field(
        default=None, description="What torch:module:factory loads: .safetensors, .pt, .pth."
    )
    inputs: dict[str, ModelInput] | None = Field(
        default=None, description="By name, in order; where the source does not say what it takes."
    )
    trust_pickle: Literal["I trust this file"] | None = Field(
        default=None, description="Consent to load a pickle: it runs what its author put into it."
    )
    version: str = "1"
    task: Literal["classification", "regression", "other"] | None = None
    labels: list[str] | None = Field(default=None, description="Class names, in output order.")
    accuracy: Fraction | None = Field(default=None, description="Declared; used if unmeasured.")
    variants: Variants | None = None
    max_accuracy_drop: Fraction = Field(
        default=0.01, description="Largest loss of the validation metric by a conversion."
    )
    output: str | None = Field(default=None, description="Name of the classification output.")
    kind: Literal["logits", "probabilities", "score"] | None = None

    @model_validator(mode="after")
    def _weights_have_a_factory(self) -> Model:
        if self.weights is not None and not self.source.startswith("torch:"):
            raise _violation(
                f"must have weights only beside source torch:module:factory, got {self.source!r}",
                "Remove weights.",
            )
        return self


class Data(Section):
    """Arrays of a file: ``.npz`` arrays or ``.csv`` columns by name."""

    data: str
    input: Texts | None = Field(
        default=None, description="Array name, or names in the order of the inputs."
    )
    samples: Count | None = Field(default=None, description="Use only the first N rows.")


class Validation(Data):
    """Labelled rows that no model was trained on; measured on this host for every candidate."""

    target: str
    metric: Metric = "accuracy"


class Resources(Section):
    """What a batch node may use."""

    cpus: Positive | None = None
    memory_mb: Positive | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    storage_mb: Positive | None = None


class StepOptions(Section):
    """What every step may carry; the scheduling of batch nodes among it."""

    name: Name | None = None
    needs: list[Name] | None = None
    when: Condition | None = None
    for_each: str | None = None
    outputs: list[str] | None = None
    retries: Annotated[int, Field(ge=0)] = 0
    timeout_s: Positive | None = None
    resources: Resources | None = None
    requirements: Texts | None = Field(default=None, description="A file, or a list of packages.")
    env: dict[str, str] | None = None
    image: str | None = None
    dockerfile: str | None = None


class ModelStep(StepOptions):
    """A slot: any of the models may fill it, at selection and at run time."""

    model: Names = Field(description="One model, or the models that may fill the slot.")

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that may fill the slot, in the policy's order."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)


class PythonStep(StepOptions):
    """A function over arrays: ``module:function`` beside the policy, or installed."""

    python: Callable
    params: dict[str, Any] = Field(default_factory=dict)


class ScriptStep(StepOptions):
    """A file that runs as a process or container of its own."""

    script: str
    params: dict[str, Any] = Field(default_factory=dict)


class CheckerStep(StepOptions):
    """A batch node that judges data or a model and can fail the run."""

    checker: str
    params: dict[str, Any] = Field(default_factory=dict)


class WorkflowStep(StepOptions):
    """Another workflow, nested."""

    workflow: Name


class ParallelStep(StepOptions):
    """Steps over the same inputs, side by side."""

    parallel: list[Step] = Field(min_length=1)
    combine: Combine | None = Field(
        default=None, description="mean | median | max | vote | concat | module:function"
    )


STEP_KEYS = ("model", "python", "workflow", "parallel", "script", "checker")


def _step_kind(value: Any) -> str | None:
    if isinstance(value, Section):
        return next((f"~{key}" for key in STEP_KEYS if hasattr(value, key)), None)
    if isinstance(value, dict):
        present = [key for key in STEP_KEYS if key in value]
        return f"~{present[0]}" if len(present) == 1 else None
    return None


Step: TypeAlias = Annotated[
    Annotated[ModelStep, Tag("~model")]
    | Annotated[PythonStep, Tag("~python")]
    | Annotated[WorkflowStep, Tag("~workflow")]
    | Annotated[ParallelStep, Tag("~parallel")]
    | Annotated[ScriptStep, Tag("~script")]
    | Annotated[CheckerStep, Tag("~checker")],
    Discriminator(
        _step_kind,
        custom_error_type="step_kind",
        custom_error_message=f"must have exactly one of the keys {', '.join(STEP_KEYS)}",
    ),
]


class Track(Section):
    """Where runs are recorded (MLflow)."""

    uri: str
    experiment: str | None = None


class Workflow(Section):
    """A graph of steps, in order, nested and parallel."""

    steps: list[Step] = Field(min_length=1)
    tracker: Track | None = None


class AnyOf(Section):
    """Alternatives: measured, the best by the objective wins."""

    any: list[Name] = Field(min_length=1)


class Sequence(Section):
    """Workflows that feed one another."""

    sequence: list[Name] = Field(min_length=1)


def _run_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "~name"
    for key, tag in (("any", "~any"), ("sequence", "~sequence")):
        if hasattr(value, key) or (isinstance(value, dict) and key in value):
            return tag
    return None


Run: TypeAlias = Annotated[
    Annotated[Name, Tag("~name")]
    | Annotated[AnyOf, Tag("~any")]
    | Annotated[Sequence, Tag("~sequence")],
    Discriminator(
        _run_kind,
        custom_error_type="run_kind",
        custom_error_message="must be a workflow's name, {any: [NAME, …]} or {sequence: [NAME, …]}",
    ),
]


class Target(Section):
    """A rule: on hosts where `when` holds, run this."""

    when: Condition | None = None
    run: Run


Maximized: TypeAlias = Literal["accuracy", "throughput_rps"]
Minimized: TypeAlias = Literal["latency_p95_ms", "memory_mb", "size_mb", "energy_mj"]
Figure: TypeAlias = Literal[
    "accuracy", "latency_p95_ms", "throughput_rps", "memory_mb", "size_mb", "energy_mj"
]


class Constraints(Section):
    """Bounds that a candidate must meet on this host, as measured."""

    max_latency_p95_ms: Positive | None = None
    max_memory_mb: Positive | None = None
    max_size_mb: Positive | None = None
    min_accuracy: Fraction | None = None
    min_throughput_rps: Positive | None = None


class Objective(Section):
    """What "best" means."""

    maximize: Maximized | None = None
    minimize: Minimized | None = None
    subject_to: Constraints = Constraints()
    on_infeasible: Literal["fail", "best_effort"] = "fail"

    @model_validator(mode="after")
    def _one_direction(self) -> Objective:
        if (self.maximize is None) == (self.minimize is None):
            raise _violation(
                "must have exactly one of maximize and minimize", "For example: maximize: accuracy"
            )
        return self

    @property
    def figure(self) -> Figure:
        """Return the figure to optimise."""
        return self.maximize or self.minimize  # type: ignore[return-value]  # one is set


class Scheduling(Section):
    """How requests are queued and batched."""

    default_deadline_ms: Positive | None = Field(
        default=None, description="Default: objective.subject_to.max_latency_p95_ms, else 1000."
    )
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 32
    max_queue: Count = 256
    standbys: Annotated[int, Field(ge=0, le=16)] = 2
    prefer: Prefer | None = None


class Measurement(Section):
    """How long measuring on this host may take."""

    budget_s: Positive = 60.0  # whole policy, first start; later starts read the cache


class Alert(Section):
    """Where an alert goes."""

    log: Literal["debug", "info", "warning", "error"] | None = None
    webhook: str | None = None


class Adapt(Section):
    """A run-time rule: while `when` holds, do this."""

    when: Condition
    prefer: Prefer | None = None
    use: str | None = Field(default=None, description="A model or a variant id.")
    alert: Alert | None = None
    retrain: (
        Annotated[
            Annotated[bool, Tag("~flag")] | Annotated[Name, Tag("~name")],
            Discriminator(lambda value: "~flag" if isinstance(value, bool) else "~name"),
        ]
        | None
    ) = Field(default=None, description="true: as feedback.retrain says; or a workflow's name.")
    for_s: Annotated[float, Field(ge=0)] = 0.0
    cooldown_s: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _acts(self) -> Adapt:
        if not any((self.prefer, self.use, self.alert, self.retrain)):
            raise _violation(
                "must have at least one of prefer, use, alert and retrain",
                "For example: prefer: latency",
            )
        return self


class Check(Section):
    """A check on live traffic; keys beside these belong to its type."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    name: Name | None = None
    workflow: Name | None = None
    on_fail: Literal["refuse", "flag", "repair"] | None = None
    method: str | None = None
    reference: str | None = None
    input: Texts | None = None
    target: str | None = None
    window: Count | None = None
    expected_run_length: Count | None = None  # rows between false alarms


class PromoteIf(Section):
    """What a retrained model must show before it serves."""

    min_gain: float = 0.0
    max_loss: Fraction = 0.02
    holdout: str


class Retrain(Section):
    """Which batch workflow learns from labels, and when."""

    workflow: Name
    when: Condition | None = None
    promote_if: PromoteIf | None = None


class Feedback(Section):
    """Which samples to ask people about."""

    strategy: str = "margin_diverse"
    queue: Count = 200
    retrain: Retrain | None = None


class Limits(Section):
    """Bounds on what one client may ask."""

    body_mb: Positive = 16.0
    max_rows: Count = 10_000  # rows of one request
    rate_rps: Positive | None = Field(default=None, description="Requests/s a client; off if unset")


class Auth(Section):
    """Bearer keys, ``NAME:SCOPE[+SCOPE]:SHA256HEX`` each."""

    keys_from_env: str | None = Field(default=None, description="Environment variable, commas.")
    keys_file: str | None = Field(default=None, description="A line each; # comments.")

    @model_validator(mode="after")
    def _one_source(self) -> Auth:
        if (self.keys_from_env is None) == (self.keys_file is None):
            raise _violation(
                "must have exactly one of keys_from_env and keys_file",
                "For example: keys_from_env: SCANFLOW_KEYS",
            )
        return self


class Tls(Section):
    """PEM files of the server's certificate."""

    certificate: str
    key: str


class Image(Section):
    """How ``image/png`` and ``image/jpeg`` bodies become the model's input.

    Decoded pixels are 0..255; ``value = pixel * scale + offset``, then ``(value - mean) / std``.
    """

    input: str | None = Field(default=None, description="Default: the only input.")
    mode: Literal["L", "RGB"]
    width: Count
    height: Count
    resize: Literal["none", "nearest", "bilinear", "bicubic"] = Field(
        default="none", description="none: another size is refused."
    )
    layout: Literal["NCHW", "NHWC", "NHW", "flat"]
    invert: bool = False  # dark ink on light paper
    scale: float = 1.0
    offset: float = 0.0
    mean: list[float] | None = None
    std: list[Positive] | None = None

    @model_validator(mode="after")
    def _a_figure_a_channel(self) -> Image:
        channels = {"L": 1, "RGB": 3}[self.mode]
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != channels:
                raise _violation(
                    f"must have {channels} value(s) in {key} for mode {self.mode}, "
                    f"got {len(values)}",
                    "Give one a channel.",
                )
        return self


class Serve(Section):
    """How the server listens and what it accepts."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    server: Literal["bentoml", "uvicorn"] = "bentoml"
    auth: (
        Annotated[
            Annotated[Literal["none"], Tag("~none")] | Annotated[Auth, Tag("~keys")],
            Discriminator(lambda value: "~none" if isinstance(value, str) else "~keys"),
        ]
        | None
    ) = Field(default=None, description="none: nobody is asked; else where the keys are.")
    tls: Tls | None = None
    limits: Limits = Limits()
    image: Image | None = None
    shutdown_grace_s: Positive = 30.0
    access_log: Fraction = Field(default=0.0, description="Share of requests logged, 0 to 1.")
    tracing: bool = Field(default=False, description="OpenTelemetry, as BentoML configures it.")
    allow_code_reload: bool = False


class Store(Section):
    """Where observations and feedback are kept."""

    url: str
    keep_rows: Count = 200_000
    keep_mb: Positive = 200.0


class Policy(Section):
    """One deployment target: what to serve, on which hosts, and what is best."""

    api_version: Literal["scanflow/v1"] = Field(alias="apiVersion")
    name: Name
    description: str = ""
    state: str | None = Field(default=None, description="Default: state/NAME beside the policy.")
    models: dict[Name, Model] = Field(min_length=1)
    calibration: Data | None = None
    validation: Validation | None = None
    workflows: dict[Name, Workflow] = Field(min_length=1)
    targets: list[Target] = Field(min_length=1)
    objective: Objective
    scheduling: Scheduling = Scheduling()
    measurement: Measurement = Measurement()
    adapt: list[Adapt] = Field(default_factory=list)
    checks: list[Annotated[dict[str, Check], Field(min_length=1, max_length=1)]] = Field(
        default_factory=list
    )
    feedback: Feedback | None = None
    serve: Serve = Serve()
    track: Track | None = None
    store: Store | None = None

    @field_validator("checks", mode="before")
    @classmethod
    def _settings_may_be_left_out(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [
            {k: {} if v is None else v for k, v in item.items()} if isinstance(item, dict) else item
            for item in value
        ]

    @property
    def default_deadline_ms(self) -> float:
        """Return the deadline of a request that names none, in ms."""
        return (
            self.scheduling.default_deadline_ms
            or self.objective.subject_to.max_latency_p95_ms
            or 1000.0
        )
