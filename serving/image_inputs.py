"""Whether ``serve.image`` gives what the models of a run take, told before anything is served."""

from __future__ import annotations

from collections.abc import Mapping

from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.runtime.workflow import graph


def require_fit(policy: Policy, run_name: str, signatures: Mapping[str, Signature]) -> None:
    """Hold ``serve.image`` to the public inputs of a run, where a model names them.

    Args:
        run_name: A `Candidate.run`.
        signatures: By model name, as far as they are known.

    Raises:
        UsageError: Images can't become those inputs; names the policy's key.
        WorkflowError: The run has steps that no request can run.
    """
    if policy.serve.image is None:
        return
    from scanflow_serve.serving.http.images import ImageReader  # Pillow, for those who need it

    node = graph.nodes(policy, graph.alternative(policy, run_name))[0]
    while isinstance(node, graph.Fork):
        node = node.branches[0][0]
    if isinstance(node, graph.Slot) and node.models[0] in signatures:
        ImageReader(policy.serve.image, signatures[node.models[0]])
