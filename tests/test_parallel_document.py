"""The commands of docs/parallel.md exist, and its job for Slurm does what it says, with stand-ins for its commands."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.markdown import blocks
from uniperceiver.cli.parser import parse

PAGE = "docs/parallel.md"
SHELL = [block.text for block in blocks(PAGE, "bash")]
LINES = [line.partition("  #")[0] for text in SHELL for line in text.splitlines() if line.startswith("uniperceiver ")]


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page_exists(line: str) -> None:
    assert parse(shlex.split(line)[1:]).func is not None


def test_the_page_starts_processes_here_and_elsewhere() -> None:
    options = [parse(shlex.split(line)[1:]).keywords for line in LINES]
    assert any(values.get("processes") == 8 and values.get("nodes") == 4 for values in options)
    assert any(values.get("rendezvous") == "node0:29500" for values in options)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (2, False)])
def test_the_job_for_slurm_is_queued_again_after_a_stop_alone(tmp_path: Path, code: int, requeued: bool) -> None:
    (text,) = [text for text in SHELL if "#SBATCH" in text]
    (tmp_path / "job.sh").write_text(text)
    calls = tmp_path / "calls"
    stands_in = f'#!/bin/bash\necho "$(basename "$0") $*" >> {calls}\n'
    for name, rest in (("srun", f"exit {code}\n"), ("scontrol", "echo node7\necho node8\n")):
        (tmp_path / name).write_text(stands_in + rest)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "4", "SLURM_JOB_ID": "11"}
    environment["SLURM_JOB_NODELIST"] = "node[7-8]"
    subprocess.run(["bash", str(tmp_path / "job.sh")], env=environment, timeout=60, check=False)
    lines = calls.read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("srun")]
    assert line.endswith("--processes 8 --nodes 4 --rendezvous node7:29500")
    assert ("scontrol requeue 11" in lines) == requeued
