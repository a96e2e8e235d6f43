"""Parts that actors of Ray write are those of this process, byte for byte; needs the package ray."""

from pathlib import Path

import pytest

from tests.small_run import values_of, write_recipe
from uniperceiver import UserError
from uniperceiver.runs.embedding import ray_actors
from uniperceiver.runs.embedding.job import EmbeddingJob
from uniperceiver.runs.embedding.ray_actors import PartWriter, embed_with_ray
from uniperceiver.serving.predict.embed import check_same, embed, part_path


@pytest.fixture
def job(trained: Path, tmp_path: Path) -> EmbeddingJob:
    recipe = write_recipe(tmp_path / "recipe.yaml", values_of(("colours",)))
    return EmbeddingJob(run=trained, data=recipe)


def same(folder: Path, other: Path, parts: int) -> bool:
    return all(
        part_path(folder, number).read_bytes() == part_path(other, number).read_bytes() for number in range(parts)
    )


def test_an_actor_writes_the_parts_of_a_process(job: EmbeddingJob, tmp_path: Path) -> None:
    """What runs in Ray, without Ray."""
    model, items = job.model("cpu"), job.items()
    embed(model, items, tmp_path / "process", size=4)
    check_same(model, items, tmp_path / "actor", 4)
    writer = PartWriter(job, str(tmp_path / "actor"), "cpu", None, 4)
    assert [writer.write(number) for number in (2, 0, 1)] == [{}, {}, {}]
    assert same(tmp_path / "process", tmp_path / "actor", 3)


def test_without_ray_a_line_says_how_to_get_it(
    job: EmbeddingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_actors, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--ray: needs the package ray; run: pip install 'uniperceiver\[ray\]'"):
        embed_with_ray(job, tmp_path, actors=2)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_actors_of_ray_go_on_where_a_process_has_stopped(job: EmbeddingJob, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the package ray (the extra `ray`, which is not in `all`)")
    model, items = job.model("cpu"), job.items()
    embed(model, items, tmp_path / "process", size=4)
    embed(model, items, tmp_path / "ray", size=4, share=(1, 3))
    told: list[int] = []
    done = embed_with_ray(job, tmp_path / "ray", actors=2, size=4, on_files=lambda ready, total: told.append(ready))
    assert (done.made, done.there, done.errors) == (2, 1, {})
    assert told[-1] == len(items)
    assert same(tmp_path / "process", tmp_path / "ray", 3)
