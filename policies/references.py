"""Names that refer to one another, and conditions: what pydantic can't see.

Works on the nodes, whatever else is wrong with them, so that all faults are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import get_args

from scanflow_serve.policies.check_settings import check_settings
from scanflow_serve.policies.conditions import ConditionError, compile_condition, parse_condition
from scanflow_serve.policies.nodes import Node, Place, Report
from scanflow_serve.policies.schema import COMBINES, BackendName, Precision
from scanflow_serve.policies.translation import nearest
from scanflow_serve.policies.vocabulary import (
    ADAPT_VARIABLES,
    RETRAIN_VARIABLES,
    TARGET_VARIABLES,
)

CHECK_TYPES = ("integrity", "anomaly", "drift", "balance")  # others come by entry point
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_VARIANT = re.compile(
    rf"(?P<model>[^/]+)/(?:{'|'.join(get_args(BackendName))})-(?:{'|'.join(get_args(Precision))})"
    r"(?:@[\w.:-]+)?(?:x\d+)?"
)


def check_references(root: Node, report: Report) -> None:
    """Add a fault to *report* for every name in the document that refers to nothing."""
    names = _Names(root, report)
    names.check_unique()
    names.check_workflows()
    names.check_targets()
    names.check_checks()
    names.check_adapt()
    names.check_feedback()
    check_accuracy(root, report)
    check_int8(root, report)


def items(root: Node, *keys: str) -> list[Node]:
    """Return the items of the list under *keys*, none where there is no list."""
    node = root.get(*keys)
    return node.items if node is not None else []


def entries(root: Node, *keys: str) -> Mapping[str, Node]:
    """Return the entries of the mapping under *keys*, none where there is no mapping."""
    node = root.get(*keys)
    return node.entries if node is not None else {}


def steps(root: Node) -> Iterator[Node]:
    """Yield every step of every workflow, parallel ones with what is inside them."""
    for workflow in entries(root, "workflows").values():
        yield from _inner(items(workflow, "steps"))


def _inner(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _inner(items(node, "parallel"))


def runs(target: Node) -> Iterator[Node]:
    """Yield the names of the workflows that *target* runs."""
    run = target.get("run")
    if run is None:
        return
    if run.text is not None:
        yield run
    for key in ("any", "sequence"):
        yield from (node for node in items(run, key) if node.text is not None)


def settings(check: Node) -> tuple[str, Node] | None:
    """Return a check's type and settings, or None where it is not a map of one key."""
    return next(iter(check.entries.items())) if len(check.entries) == 1 else None


def reachable_models(root: Node) -> dict[str, Node]:
    """Return the models that some target may run, in order of first use, with their nodes."""
    workflows, models = entries(root, "workflows"), entries(root, "models")
    found: dict[str, Node] = {}
    seen: set[str] = set()
    waiting = [node.text for target in items(root, "targets") for node in runs(target)]
    while waiting:
        name = waiting.pop(0)
        if name is None or name in seen or name not in workflows:
            continue
        seen.add(name)
        for step in _inner(items(workflows[name], "steps")):
            for node in _texts(step, "model"):
                if node.text in models:
                    found[str(node.text)] = models[str(node.text)]
            waiting += [node.text for node in _texts(step, "workflow")]
    return found


def _texts(node: Node, key: str) -> list[Node]:
    child = node.get(key)
    return list(child.texts()) if child is not None else []


class _Names:
    """The names that a document defines, and the checks of those that refer to them."""

    def __init__(self, root: Node, report: Report) -> None:
        self._root = root
        self._report = report
        self._models = entries(root, "models")
        self._workflows = entries(root, "workflows")
        self._checks = frozenset(self._check_names())

    def check_unique(self) -> None:
        """Policy, models and workflows share one namespace: each has a URL of its own."""
        taken: dict[str, str] = {}
        name = self._root.get("name")
        if name is not None and name.text is not None:
            taken[name.text] = "the policy"
        for kind, nodes in (("model", self._models), ("workflow", self._workflows)):
            for text, node in nodes.items():
                if text in taken:
                    rule = f"must have a name of its own, got {text!r}, the name of {taken[text]}"
                    self._report.add(node, rule, f"Rename the {kind}.", at=node.key)
                taken.setdefault(text, f"a {kind}")

    def check_workflows(self) -> None:
        """Steps name models and workflows that exist, and no workflow runs itself."""
        for step in steps(self._root):
            for node in _texts(step, "model"):
                self._defined(node, self._models, "model")
            for node in _texts(step, "workflow"):
                self._defined(node, self._workflows, "workflow")
            combine = step.get("combine")
            if combine is not None and combine.text is not None:
                self._check_combine(combine, combine.text)
            when = step.get("when")
            if when is not None and when.text:
                self._condition(when, None)
        for name in self._workflows:
            self._check_cycle(name)

    def _check_combine(self, node: Node, text: str) -> None:
        if text not in COMBINES and not _CALLABLE.fullmatch(text):
            rule = f"must be one of {', '.join(COMBINES)} or module:function, got {text!r}"
            cure = nearest(text, COMBINES)
            self._report.add(node, rule, cure if cure.startswith("Did") else "")

    def _check_cycle(self, start: str) -> None:
        """Report the step that leads back to *start*, once a cycle: in its first workflow."""
        order = list(self._workflows)
        waiting: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
        seen: set[str] = set()
        while waiting:
            name, path = waiting.pop()
            for step in _inner(items(self._workflows[name], "steps")):
                for node in _texts(step, "workflow"):
                    inner = str(node.text)
                    if inner == start and start == min(path, key=order.index):
                        chain = " > ".join((*path, start))
                        rule = f"must not lead back to its own workflow, got {chain}"
                        self._report.add(node, rule, "Break the circle.")
                    elif inner in self._workflows and inner not in seen:
                        seen.add(inner)
                        waiting.append((inner, (*path, inner)))

    def check_targets(self) -> None:
        """Targets run workflows that exist; only the last one goes without a condition."""
        targets = items(self._root, "targets")
        unconditional: Node | None = None
        for target in targets:
            for node in runs(target):
                self._defined(node, self._workflows, "workflow")
            if unconditional is not None:
                rule = f"must be reachable, but {unconditional.path} has no 'when' and always wins"
                self._report.add(target, rule, "Give that one a condition, or move it to the end.")
            elif not target.entries.get("when") and target.get("run") is not None:
                unconditional = target
            self._conditions(target, TARGET_VARIABLES)

    def _check_names(self) -> Iterator[str]:
        for check in items(self._root, "checks"):
            if (pair := settings(check)) is not None:
                name = pair[1].get("name")
                yield name.text if name is not None and name.text is not None else pair[0]

    def check_checks(self) -> None:
        """Checks have a known type and a name of their own, and watch a workflow that exists."""
        taken: dict[str, Node] = {}
        for check in items(self._root, "checks"):
            if (pair := settings(check)) is None:
                continue
            kind, node = pair
            if kind not in CHECK_TYPES:
                known = {*CHECK_TYPES, *entry_points(group="scanflow_serve.checks").names}
                if kind not in known:
                    rule = f"must be a check's type, got {kind!r}"
                    self._report.add(node, rule, nearest(kind, known), at=node.key)
            given = node.get("name")
            name = given.text if given is not None and given.text is not None else kind
            if name in taken:
                rule = f"must have a name of its own, got {name!r}, the name of {taken[name].path}"
                self._report.add(given or node, rule, "Give it another name.")
            taken.setdefault(name, node)
            check_settings(kind, node, self._root, self._report)
            for workflow in _texts(node, "workflow"):
                self._defined(workflow, self._workflows, "workflow")

    def check_adapt(self) -> None:
        """Run-time rules name models, variants, workflows, and conditions that can hold."""
        retrain = self._root.get("feedback", "retrain")
        for rule_node in items(self._root, "adapt"):
            self._conditions(rule_node, ADAPT_VARIABLES)
            for node in _texts(rule_node, "use"):
                self._check_use(node)
            learn = rule_node.get("retrain")
            if learn is not None and learn.text is not None:
                self._defined(learn, self._workflows, "workflow")
            elif learn is not None and learn.content is True and retrain is None:
                rule = "must know which workflow retrains, got true without feedback.retrain"
                cure = "Add feedback.retrain.workflow, or name the workflow here."
                self._report.add(learn, rule, cure)

    def _check_use(self, node: Node) -> None:
        text = str(node.text)
        variant = _VARIANT.fullmatch(text)
        model = variant["model"] if variant else text
        if model in self._models:
            return
        if variant is None and "/" in text:
            rule = f"must be MODEL or MODEL/BACKEND-PRECISION[@DEVICE][xTHREADS], got {text!r}"
            self._report.add(node, rule, "For example: digits-cnn/openvino-int8x2")
        else:
            rule = f"must name a model or a variant of one, got {text!r}"
            self._report.add(node, rule, nearest(model, self._models))

    def check_feedback(self) -> None:
        """Retraining runs a workflow that exists."""
        retrain = self._root.get("feedback", "retrain")
        if retrain is not None:
            for node in _texts(retrain, "workflow"):
                self._defined(node, self._workflows, "workflow")
            self._conditions(retrain, RETRAIN_VARIABLES)

    def _defined(self, node: Node, known: Mapping[str, Node], kind: str) -> None:
        name = node.text
        if name is None or name in known or self._report.knows(node):
            return
        rule = f"must name a {kind} that is defined, got {name!r}"
        other = self._models if kind == "workflow" else self._workflows
        if name in other:
            is_kind = "model" if kind == "workflow" else "workflow"
            use = "in a workflow's step" if is_kind == "model" else f"as workflow: {name}"
            self._report.add(node, rule, f"{name} is a {is_kind}: use it {use}.")
        else:
            cure = nearest(name, known)
            if not cure.startswith("Did you mean"):
                cure = f"Define it under {kind}s. {cure}"
            self._report.add(node, rule, cure)

    def _conditions(self, node: Node, variables: frozenset[str]) -> None:
        when = node.get("when")
        if when is not None and when.text:
            self._condition(when, variables)

    def _condition(self, node: Node, variables: frozenset[str] | None) -> None:
        """Compile a condition; without *variables*, those of batch steps, only parse it."""
        text = str(node.text)
        try:
            if variables is None:
                parse_condition(text)
            else:
                compile_condition(text, variables, self._checks)
        except ConditionError as error:
            start, place = node.verbatim, None
            if start is not None:
                place = Place(start.line, start.column + error.column - 1)
            self._report.add(node, error.rule, error.cure, at=place)


def check_accuracy(root: Node, report: Report) -> None:
    """Accuracy is measured on `validation`, or declared on every model that may be chosen."""
    if root.get("validation") is not None:
        return
    asking = [
        node
        for node in (
            root.get("objective", "maximize"),
            root.get("objective", "subject_to", "min_accuracy"),
        )
        if node is not None and (node.content == "accuracy" or node.path.endswith("min_accuracy"))
    ]
    lacking = [name for name, node in reachable_models(root).items() if not node.get("accuracy")]
    if asking and lacking:
        rule = f"needs 'validation', or 'accuracy' declared on {', '.join(lacking)}"
        report.add(asking[0], rule, "Add validation: {data: FILE, input: ARRAY, target: ARRAY}.")


def check_int8(root: Node, report: Report) -> None:
    """Int8 that is asked for in so many words needs rows to calibrate with."""
    if root.get("calibration") is not None:
        return
    for model in entries(root, "models").values():
        for node in items(model, "variants", "precisions"):
            if node.content == "int8":
                rule = "needs 'calibration', rows whose ranges int8 is scaled to"
                report.add(node, rule, "Add calibration: {data: FILE, input: ARRAY}.")
