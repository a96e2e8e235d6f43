"""Where a model lies: local folders first, the hub only for OWNER/NAME without such a folder."""

from pathlib import Path
from typing import Any

import pytest

from uniperceiver.errors import UserError
from uniperceiver.serving.locate import model_folder


def test_a_run_and_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "model"
    assert model_folder(tmp_path / "run" / "model") == tmp_path / "run" / "model"


def test_a_misspelt_folder_never_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/dmeo", "nothing", "/no/such/folder"):
        with pytest.raises(UserError, match="neither a saved model"):
            model_folder(name)


def test_a_hub_id_fetches_only_the_files_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[Any] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name.startswith("absent"):
            raise OSError("offline")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert model_folder("somebody/a-model") == tmp_path
    assert asked[0][0] == "somebody/a-model"
    # Code of the model's own is fetched, but run by nobody who does not trust it (tests/test_own_code.py).
    assert all(not pattern.endswith((".bin", ".pt", "*")) for pattern in asked[0][1])
    with pytest.raises(UserError, match=r"absent/model: no such folder.*offline"):
        model_folder("absent/model")
