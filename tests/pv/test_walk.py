import os
from pathlib import Path

import pytest

from pv.errors import PvError
from pv.walk import is_contract, yaml_files


def test_files_come_in_depth_and_in_order(tmp_path):
    for name in ("b/z.yml", "b/a.yaml", "a.yaml", "c.yaml", ".hidden/c.yaml", ".d.yaml", "e.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [str(file.relative_to(tmp_path)) for file in yaml_files(tmp_path)]
    assert found == ["a.yaml", "c.yaml", "b/a.yaml", "b/z.yml"]


def test_a_folder_that_cannot_be_searched_is_no_empty_one(tmp_path, monkeypatch):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(PvError, match=r": cannot be read: Permission denied$"):
        list(yaml_files(tmp_path))


@pytest.mark.parametrize(
    ("name", "wanted"), [("softmax.yaml", True), ("binding.yaml", False), ("a-playbook-v1.yaml", False)]
)
def test_binding_registries_and_playbooks_are_no_contracts(name, wanted):
    assert is_contract(Path("contracts") / name) is wanted
