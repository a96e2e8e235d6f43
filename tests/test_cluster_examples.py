"""The files for clusters are what their programs read, as far as that is known without them; their commands exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.markdown import ROOT, blocks
from uniperceiver.cli.parser import parse
from uniperceiver.parallel.environment import EXIT_CODE as LOST
from uniperceiver.training.stop import EXIT_CODE as STOPPED

FOLDER = ROOT / "examples/cluster"
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@needs_bash
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.slurm")), ids=lambda path: path.name)
def test_a_script_is_one_for_bash(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/bin/bash\n#SBATCH --")
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=60)


def test_the_page_shows_the_job() -> None:
    shown = [block.text for block in blocks("docs/parallel.md", "bash") if "#SBATCH" in block.text]
    assert (FOLDER / "train.slurm").read_text() == f"#!/bin/bash\n{shown[0].rstrip()}\n"


@needs_bash
def test_an_array_makes_all_shares(tmp_path: Path) -> None:
    """With a stand-in for the command, which tells what it was given."""
    calls = tmp_path / "calls"
    (tmp_path / "uniperceiver").write_text(f'#!/bin/bash\necho "$*" >> {calls}\n')
    (tmp_path / "uniperceiver").chmod(0o755)
    text = (FOLDER / "embed.slurm").read_text()
    last = int(re.search(r"--array=0-(\d+)", text)[1])  # type: ignore[index]
    for number in range(last + 1):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(number)}
        environment["SLURM_ARRAY_TASK_COUNT"] = str(last + 1)
        subprocess.run(["bash", str(FOLDER / "embed.slurm")], env=environment, check=True, timeout=60)
    options = [parse(shlex.split(line)).keywords for line in calls.read_text().splitlines()]
    assert [values["share"] for values in options] == [f"{number}/16" for number in range(16)]
    assert {values["device"] for values in options} == {"cuda"}


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def test_the_job_for_kubernetes_starts_what_it_asks_machines_for() -> None:
    service, job = documents()
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = parse(container["args"]).keywords
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == values["nodes"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == values["processes"]
    name = job["metadata"]["name"]
    assert values["rendezvous"] == f"{name}-0.{service['metadata']['name']}:29500"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["spec"]["clusterIP"] == "None"  # of each pod an address of its own


def test_the_job_for_kubernetes_goes_on_where_that_helps() -> None:
    _, job = documents()
    pod = job["spec"]["template"]["spec"]
    rules = job["spec"]["podFailurePolicy"]["rules"]
    codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule}
    assert codes == {"Ignore": [STOPPED, LOST], "FailJob": [2]}
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {
        container["name"] for container in pod["containers"]
    }
    assert pod["restartPolicy"] == "Never"  # else there is no such policy
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_the_job_for_kubernetes_has_the_folders_that_it_names() -> None:
    _, job = documents()
    pod = job["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    values = parse(pod["containers"][0]["args"]).keywords
    assert {str(path.parent) for path in (values["out"], values["recipe"])} == {"/shared"}


def test_the_container_copies_what_is_there_and_starts_the_command() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [word for word, _ in steps] == ["FROM", "COPY", "COPY", "RUN", "ENTRYPOINT"]
    for word, rest in steps:
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    assert json.loads(steps[-1][1]) == ["uniperceiver"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"/src\[([a-z,]+)\]", steps[3][1])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    assert project["readme"] in steps[1][1]
    (command,) = [line for line in lines if line.startswith("# docker run")]
    assert "--ipc=host" in command
    assert parse(shlex.split(command.partition(" uniperceiver ")[2])).keywords["processes"] == 8
