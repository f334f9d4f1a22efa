"""Which policy a state folder serves at the next start, and after a crash at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.policies.errors import PolicyError, StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.serving import admission, kept_policy


@pytest.fixture
def on_disk(contract: Path) -> PolicyFile:
    return load_policy(contract / "quickstart.yaml")


def put(on_disk: PolicyFile, state: Path, line: str = "description: put") -> PolicyFile:
    """Accept another policy over the file, as ``PUT /policy`` does."""
    policy_file = load_policy(on_disk.path, text=f"{on_disk.text}\n{line}\n")
    plan = state / kept_policy.PLANS / "a"
    plan.mkdir(parents=True)
    over = kept_policy.text_digest(on_disk.text)
    kept_policy.keep(policy_file, state, plan=plan, over=over)
    return policy_file


def test_policy_is_kept_with_the_folder_of_its_plan(on_disk: PolicyFile, tmp_path: Path) -> None:
    kept_policy.keep(on_disk, tmp_path)
    assert kept_policy.kept(tmp_path) == kept_policy.Kept(on_disk, tmp_path)
    accepted = put(on_disk, tmp_path)
    plan = tmp_path / kept_policy.PLANS / "a"
    assert kept_policy.kept(tmp_path) == kept_policy.Kept(accepted, plan)


def test_plans_that_are_no_longer_served_are_removed(on_disk: PolicyFile, tmp_path: Path) -> None:
    put(on_disk, tmp_path)
    (tmp_path / kept_policy.PLANS / "left by a crash").mkdir()
    kept_policy.keep(on_disk, tmp_path)
    assert list((tmp_path / kept_policy.PLANS).iterdir()) == []


def test_nothing_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="must hold the policy that was planned"):
        kept_policy.kept(tmp_path)


def test_accepted_policy_serves_while_the_file_is_as_it_was(
    on_disk: PolicyFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = put(on_disk, tmp_path)
    found = admission.in_force(on_disk, tmp_path, {})
    assert found == accepted
    assert "serving the policy accepted by PUT /policy" in capsys.readouterr().err
    # The next start after that serves it, too.
    kept_policy.keep(found, tmp_path, over=kept_policy.over(found, tmp_path))
    assert admission.in_force(on_disk, tmp_path, {}) == accepted


def test_file_that_was_edited_since_wins(on_disk: PolicyFile, tmp_path: Path) -> None:
    put(on_disk, tmp_path)
    edited = load_policy(on_disk.path, text=f"{on_disk.text}# edited\n")
    assert admission.in_force(edited, tmp_path, {}) == edited
    kept_policy.keep(edited, tmp_path, over=kept_policy.over(edited, tmp_path))
    assert admission.in_force(on_disk, tmp_path, {}) == on_disk


def test_another_policy_that_shares_the_state_is_not_mistaken(
    on_disk: PolicyFile, contract: Path, tmp_path: Path
) -> None:
    put(on_disk, tmp_path)
    (contract / "copy.yaml").write_text(on_disk.text)
    copy = load_policy(contract / "copy.yaml")
    assert admission.in_force(copy, tmp_path, {}) == copy


def test_accepted_policy_that_has_faults_by_now_is_passed_over(
    on_disk: PolicyFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = on_disk.folder
    (contract / "more.npz").write_bytes((contract / "data" / "digits-train.npz").read_bytes())
    put(on_disk, tmp_path, "calibration: {data: more.npz, input: pixels}")
    (contract / "more.npz").unlink()
    with pytest.raises(PolicyError, match=r"more\.npz"):
        kept_policy.accepted(on_disk, tmp_path)
    assert admission.in_force(on_disk, tmp_path, {}) == on_disk
    told = capsys.readouterr().err
    assert "can't be served any more" in told
    assert "more.npz" in told


@pytest.mark.parametrize("content", ["", "[]", '{"path": "x"}', '{"path": 1, "text": 2}'])
def test_file_that_tells_nothing_is_taken_for_none(
    on_disk: PolicyFile, tmp_path: Path, content: str
) -> None:
    (tmp_path / kept_policy.FILE).write_text(content)
    assert admission.in_force(on_disk, tmp_path, {}) == on_disk
