"""`SkillMapper` without an engine: batches of each kind, errors, resuming."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import moondream_async._distributed.mapper as mapper_module
from moondream_async import (
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    ConfigurationError,
    ImageError,
    ResultsFileError,
)
from moondream_async.distributed import SkillMapper, schema
from tests.support.sandboxes import PooledSandbox


@pytest.fixture
def client() -> Any:
    with PooledSandbox() as sandbox:
        yield AsyncClient(base_url=sandbox.base_url)


@pytest.fixture
def paths(tmp_path: Path, scene: bytes) -> list[str]:
    (tmp_path / "a.png").write_bytes(scene)
    return [str(tmp_path / "a.png"), str(tmp_path / "none.png"), str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    ("skill", "arguments", "filled"),
    [
        ("query", {"question": "How many?"}, "answer"),
        ("caption", {"length": "short"}, "caption"),
        ("detect", {"object": "red"}, "objects"),
        ("detect", {"object": ["red", "blue"]}, "objects"),
        ("point", {"object": "red"}, "points"),
        ("segment", {"object": "red"}, "path"),
    ],
)
def test_skills(client: AsyncClient, paths: list[str], skill: str, arguments: dict[str, Any], filled: str):
    mapper = SkillMapper(skill, image="file", client=client, **arguments)
    table = mapper.run(pa.table({"file": paths, "n": [1, 2, 3]}))
    assert table.column_names == ["file", "n", *mapper.columns]
    assert [table.schema.field(name).type for name in mapper.columns] == [field.type for field in schema(skill)]
    rows = table.to_pylist()
    assert rows[0][filled]
    assert rows[1][filled] is None
    assert rows[1]["error_type"] == "ImageError"
    assert "none.png" in rows[1]["error"]
    assert rows[2]["error"] is None
    assert rows[2]["input_tokens"] > 0
    assert rows[2]["request_id"] or isinstance(arguments.get("object"), list)  # these are several requests


def test_kinds_of_batches(client: AsyncClient, paths: list[str]):
    mapper = SkillMapper("caption", image="file", client=client)
    lists = mapper.run({"file": paths})
    assert list(lists) == ["file", *mapper.columns]
    frame = mapper.run(pd.DataFrame({"file": paths}, index=[7, 8, 9]))
    assert list(frame.index) == [7, 8, 9]
    arrays = mapper.run({"file": np.array(paths, dtype=object), "n": np.arange(3)})
    assert isinstance(arrays, pa.Table)  # with types that do not depend on the values
    table = mapper.run(pa.table({"file": paths}))
    for found in (frame["caption"].tolist(), arrays["caption"].to_pylist(), table["caption"].to_pylist()):
        assert found == lists["caption"]
    assert asyncio.run(mapper.map_row({"file": paths[0], "n": 5}))["caption"] == lists["caption"][0]


def test_kinds_of_images(client: AsyncClient, scene: bytes, paths: list[str]):
    picture = Image.open(paths[0]).convert("RGB")
    images: list[Any] = [
        scene,
        picture,
        np.asarray(picture),
        {"bytes": scene, "path": None},
        {"bytes": None, "path": paths[0]},
    ]
    found = SkillMapper("caption", client=client).run({"image": images})
    assert found["error"] == [None] * 5
    assert len(set(found["caption"])) == 1
    stacked = np.stack([np.asarray(picture)] * 2)
    ray_like = SkillMapper("caption", client=client).run({"image": stacked, "n": np.arange(2)})
    assert list(ray_like["error"]) == [None, None]
    assert ray_like["image"] is stacked


def test_no_rows(client: AsyncClient):
    mapper = SkillMapper("detect", object="red", client=client)
    assert mapper.run({"image": []})["objects"] == []
    assert mapper.run(pa.table({"image": pa.array([], pa.string())})).num_rows == 0


def test_keep_and_replace(client: AsyncClient, paths: list[str]):
    mapper = SkillMapper("caption", image="file", client=client, keep=["n"])
    assert list(mapper.run({"file": paths, "n": [1, 2, 3]})) == ["n", *mapper.columns]
    nothing = SkillMapper("caption", image="file", client=client, keep=[])
    for table in (
        {"file": paths},
        pd.DataFrame({"file": paths}),
        pa.table({"file": paths}),
        {"file": np.array(paths, dtype=object)},
    ):
        assert len(nothing.run(table)["caption"]) == 3
    mapper = SkillMapper("caption", image="file", client=client, keep=["file"])
    again = mapper.run(pa.table({"file": paths, "caption": ["", "", ""]}))
    assert again.column_names.count("caption") == 1
    assert again["caption"].to_pylist()[0]


def test_arguments_from_columns(client: AsyncClient, paths: list[str]):
    mapper = SkillMapper("detect", image="file", client=client, from_columns={"object": "label"})
    found = mapper.run({"file": [paths[0]] * 2, "label": ["red", "pink"]})
    assert [len(objects) for objects in found["objects"]] == [1, 0]
    texts = SkillMapper("query", image=None, client=client, from_columns={"question": "q"}).run({"q": ["a?", "b?"]})
    assert texts["error"] == [None, None]


def test_missing_column(client: AsyncClient):
    for table in (
        {"file": ["a"], "n": [1]},
        pd.DataFrame({"file": ["a"], "n": [1]}),
        pa.table({"file": ["a"], "n": [1]}),
    ):
        with pytest.raises(ConfigurationError, match=r"no column 'image'.*'file', 'n'"):
            SkillMapper("caption", client=client).run(table)
    with pytest.raises(ConfigurationError, match="no column 'q'"):
        SkillMapper("query", client=client, from_columns={"question": "q"}).run({"image": ["a"]})
    with pytest.raises(ConfigurationError, match="must be a dict of columns"):
        SkillMapper("caption", client=client).run([{"image": "a"}])


@pytest.mark.parametrize(
    ("options", "table", "message"),
    [
        ({"keep": ["id"]}, {"image": ["a"]}, "no column 'id'"),
        ({}, {"image": ["a"], "caption": ["mine"]}, "has a column 'caption', which caption adds"),
        ({}, {"image": ["a"], "error": [None]}, "has a column 'error'"),
        ({}, {"image": ["a", "b"], "n": [1]}, "differ in length"),
        ({}, {"image": "a.jpg"}, "must be a list"),
        ({}, {}, "no column 'image'"),
    ],
)
def test_bad_batches_cost_nothing(client: AsyncClient, options: dict[str, Any], table: Any, message: str):
    mapper = SkillMapper("caption", client=client, **options)
    with pytest.raises(ConfigurationError, match=message):
        mapper.run(table)
    if table and all(isinstance(values, list) for values in table.values()) and "differ" not in message:
        with pytest.raises(ConfigurationError, match=message):
            asyncio.run(mapper.map_row({name: values[0] for name, values in table.items()}))
    assert client.stats.requests == 0


async def test_run_in_an_event_loop(client: AsyncClient):
    with pytest.raises(ConfigurationError, match="await mapper"):
        SkillMapper("caption", client=client).run({"image": ["a"]})


def test_raise(client: AsyncClient, paths: list[str]):
    with pytest.raises(ImageError, match=r"none\.png"):
        SkillMapper("caption", image="file", client=client, on_error="raise").run({"file": paths})


def test_what_stops_a_batch(paths: list[str]):
    with PooledSandbox(api_key="the-right-key-0123456789") as sandbox:
        mapper = SkillMapper(
            "caption", image="file", client=AsyncClient("a-wrong-key-0123456789", base_url=sandbox.base_url)
        )
        with pytest.raises(AuthenticationError):
            mapper.run({"file": [paths[0]] * 50})
    down = SkillMapper("caption", image="file", client=AsyncClient(base_url="http://127.0.0.1:9/v1", retry=1))
    with pytest.raises(APIConnectionError):
        down.run({"file": [paths[0]] * 50})


def test_pickled_and_one_client_in_each_process(client: AsyncClient, paths: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mapper_module, "_clients", {})
    data = pickle.dumps(SkillMapper("caption", image="file", client=client))
    assert len(data) < 2000
    for _ in range(3):
        assert pickle.loads(data).run({"file": paths})["caption"][0]
    assert len(mapper_module._clients) == 1
    other = AsyncClient("another-key-0123456789", base_url=client.base_url)
    SkillMapper("caption", image="file", client=other).run({"file": paths})
    assert len(mapper_module._clients) == 2


def test_a_changed_environment(paths: list[str], monkeypatch: pytest.MonkeyPatch):
    with PooledSandbox(api_key="the-right-key-0123456789") as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONDREAM_API_KEY", "a-wrong-key-0123456789")
        with pytest.raises(AuthenticationError):
            SkillMapper("caption", image="file").run({"file": paths})
        monkeypatch.setenv("MOONDREAM_API_KEY", "the-right-key-0123456789")
        assert "square" in SkillMapper("caption", image="file").run({"file": paths})["caption"][0]


def test_no_key_in_the_worker():
    with pytest.raises(ConfigurationError, match=r"MOONDREAM_API_KEY.*that of process \d+ on "):
        SkillMapper("caption").run({"image": ["a.jpg"]})


@pytest.mark.parametrize(
    ("skill", "options", "message"),
    [
        ("ocr", {}, "skill must be one of"),
        (["caption"], {}, "skill must be one of"),
        ("caption", {"keep": "path"}, "keep must be a list"),
        ("query", {"from_columns": "question"}, "from_columns must be a dict"),
        ("query", {"question": "q", "from_columns": {"question": "q"}}, "question is given twice"),
        ("detect", {}, "detect needs object=..., or from_columns="),
        ("detect", {"object": ""}, "object"),
        ("caption", {"object": "red"}, "caption takes no object="),
        ("caption", {"from_columns": {"object": "label"}}, "caption takes no object="),
        ("caption", {"length": "epic"}, "length"),
        ("caption", {"concurrency": 0}, "concurrency"),
        ("caption", {"on_error": "ignore"}, "on_error"),
        ("caption", {"rate_limit": -1}, "rate_limit"),
        ("caption", {"rate_limit": 1, "client": AsyncClient(base_url="http://a")}, "Give rate_limit to the client"),
        ("caption", {"client": "http://a"}, "client must be an AsyncClient"),
    ],
)
def test_bad_arguments(skill: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        SkillMapper(skill, **options)


class TestResuming:
    def write(
        self, folder: Path, ids: list[str], errors: list[str | None] | None = None, name: str = "part-0.parquet"
    ) -> None:
        pq.write_table(
            pa.table({"path": ids, "error": pa.array(errors or [None] * len(ids), pa.string())}), folder / name
        )

    def test_remaining(self, tmp_path: Path):
        output = SkillMapper("caption").output(tmp_path / "out", id="path")
        assert output.remaining(["a", "b"]) == ["a", "b"]
        self.write(tmp_path / "out", ["a", "b"], [None, "broken"])
        (tmp_path / "out" / "day=2").mkdir()
        self.write(tmp_path / "out" / "day=2", ["c"])
        assert output.finished() == {"a", "b", "c"}
        assert output.remaining([{"path": "b"}, {"path": "d"}]) == [{"path": "d"}]
        assert output.remaining(["a", "b", "d"], retry_failed=True) == ["b", "d"]
        assert output.remaining([Path("a"), Path("d")]) == [Path("d")]
        for items in ("a.jpg", pd.DataFrame({"path": ["a"]}), pa.table({"path": ["a"]}), [{"id": 1}], [["a"]]):
            with pytest.raises(ConfigurationError):
                output.remaining(items)

    def test_another_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        SkillMapper("caption").output(tmp_path, id="path")
        monkeypatch.setenv("MOONDREAM_MODEL", "moondream3-preview")
        with pytest.raises(ResultsFileError, match="model was None, now 'moondream3-preview'"):
            SkillMapper("caption").output(tmp_path, id="path")

    @pytest.mark.parametrize(("folder", "id"), [("s3://bucket/x", "path"), ("out", ""), ("out", None)])
    def test_bad_arguments(self, folder: str, id: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigurationError):
            SkillMapper("caption").output(folder, id=id)
        assert not list(tmp_path.iterdir())

    def test_half_a_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        output = SkillMapper("caption").output(tmp_path, id="path")
        self.write(tmp_path, ["a"])
        whole = (tmp_path / "part-0.parquet").read_bytes()
        (tmp_path / "part-1.parquet").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "part-2.parquet").touch()
        assert output.finished() == {"a"}
        assert "part-1.parquet cannot be read" in caplog.text

    @pytest.mark.parametrize(
        "other",
        [
            SkillMapper("caption", length="short"),
            SkillMapper("query", question="x"),
            SkillMapper("caption", from_columns={"length": "n"}),
        ],
    )
    def test_another_run(self, tmp_path: Path, other: SkillMapper):
        SkillMapper("caption").output(tmp_path / "out", id="path")
        SkillMapper("caption").output(tmp_path / "out", id="path")
        with pytest.raises(ResultsFileError, match="another run"):
            other.output(tmp_path / "out", id="path")

    def test_a_folder_with_other_files(self, tmp_path: Path):
        self.write(tmp_path, ["a"])
        with pytest.raises(ResultsFileError, match="not of such a run"):
            SkillMapper("caption").output(tmp_path, id="path")

    def test_a_file_without_the_column(self, tmp_path: Path):
        output = SkillMapper("caption").output(tmp_path, id="id")
        self.write(tmp_path, ["a"])
        with pytest.raises(ConfigurationError, match="has no column 'id'"):
            output.finished()

    def test_a_folder_that_cannot_be_used(self, tmp_path: Path):
        (tmp_path / "file").touch()
        with pytest.raises(ResultsFileError, match="cannot be used"):
            SkillMapper("caption").output(tmp_path / "file", id="id")
