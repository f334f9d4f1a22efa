from __future__ import annotations

import hashlib

import pytest

from scanflow_serve.policies.errors import RequestError, UsageError
from scanflow_serve.policies.schema import Auth
from scanflow_serve.serving.keys import load_keys, new_key, require

ENV = Auth(keys_from_env="KEYS")
DIGEST = "0" * 64


def test_a_new_key_opens_what_its_line_says(tmp_path):
    secret, line = new_key("camera", ["admin", "predict"])
    assert line == f"camera:predict+admin:{hashlib.sha256(secret.encode()).hexdigest()}"
    key = load_keys(ENV, tmp_path, {"KEYS": line}).key(f"Bearer {secret}")
    assert key.name == "camera"
    require(key, "admin")
    with pytest.raises(
        RequestError, match="'camera' must have scope feedback, got admin\\+predict"
    ):
        require(key, "feedback")


def test_keys_of_a_file_have_a_line_each_and_comments(tmp_path):
    _, first = new_key("a", ["predict"])
    _, second = new_key("b", ["feedback"])
    (tmp_path / "keys.txt").write_text(f"# fleet\n{first}\n\n  {second}\n")
    ring = load_keys(Auth(keys_file="keys.txt"), tmp_path, {})
    assert [key.name for key in ring.keys] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold at least one key, got none"),
        ("a:predict", "a key must read NAME:SCOPE"),
        (f"-:predict:{DIGEST}", "a key's name must match"),
        (f"a:predict+root:{DIGEST}", "a scope must be one of predict, feedback, admin, got 'root'"),
        (f"a::{DIGEST}", "a scope must be one of"),
        ("a:predict:abc", "64 hex digits, got 3 characters"),
        (f"a:predict:{DIGEST},a:admin:{DIGEST}", "names must be unique, got 'a' twice"),
    ],
)
def test_a_malformed_key_is_refused(tmp_path, text, says):
    with pytest.raises(UsageError, match=r"serve\.auth\.keys_from_env \(KEYS\): ") as refused:
        load_keys(ENV, tmp_path, {"KEYS": text})
    assert says in str(refused.value)
    assert DIGEST not in str(refused.value)


def test_an_unset_variable_says_how_to_make_a_key(tmp_path):
    with pytest.raises(UsageError, match=r"must be set, got nothing\. Make a key with"):
        load_keys(ENV, tmp_path, {})


def test_a_key_file_may_not_leave_the_policys_folder(tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    (tmp_path / "keys").write_text(new_key("a", ["predict"])[1])
    with pytest.raises(UsageError, match="must lie in the policy's folder"):
        load_keys(Auth(keys_file="../keys"), folder, {})


def test_a_key_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="must be a readable text file"):
        load_keys(Auth(keys_file="keys"), tmp_path, {})


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer \xe9"])
def test_a_header_that_presents_no_known_key_is_401(tmp_path, header):
    ring = load_keys(ENV, tmp_path, {"KEYS": new_key("a", ["predict"])[1]})
    with pytest.raises(RequestError, match=r"key is (required|unknown)") as refused:
        ring.key(header)
    assert refused.value.status == 401
