"""`uniperceiver export`: a folder and its report, and one line about what cannot be."""

import json
from pathlib import Path

import pytest

from tests.exported import CLOSE, PICTURES, tiny_saved
from uniperceiver import UniPerceiver
from uniperceiver.cli import main
from uniperceiver.runner import Runner


def test_export_writes_a_folder_that_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (uniperceiver[export])")
    saved, out = tmp_path / "model", tmp_path / "export"
    model = UniPerceiver(tiny_saved(("image_text_retrieval",)))
    model.save_pretrained(saved)
    assert main(["export", str(saved), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["difference"] <= CLOSE
    assert set(report["graphs"]) == {path.name for path in (out / "onnx").iterdir()}
    assert abs(model.encode_image(PICTURES).numpy() - Runner(out).encode_image(PICTURES)).max() <= CLOSE
    assert main(["info", str(out)]) == 2
    assert "is an export" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "shape"], "unknown task 'shape'"),
        (["--to", "pt2", "--int8"], "--int8 is for graphs of ONNX"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (uniperceiver[export])")
    UniPerceiver(tiny_saved(("image_text_retrieval",))).save_pretrained(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
