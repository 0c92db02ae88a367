"""The programs of examples/ run against the sandbox, in this process; the pages of docs/recipes show them as they are."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from moondream_async import AuthenticationError
from moondream_async.video import Frame
from tests.support.films import film
from tests.support.sandboxes import PooledSandbox
from tools import recipe_pages, recipe_samples

EXAMPLES = recipe_pages.ROOT / "examples"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[PooledSandbox]:
    with PooledSandbox() as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("FAL_BASE_URL", sandbox.fal_url)
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a program without running it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted(recipe_pages.PAGES.glob("*.md")), ids=lambda page: page.stem)
@pytest.mark.usefixtures("sandbox")
def test_pages_show_the_code_and_its_output(page: Path, tmp_path: Path) -> None:
    with recipe_pages.in_folder(page, tmp_path):
        text, shown = recipe_pages.current(page), page.read_text()
        assert recipe_pages.without_times(text) == recipe_pages.without_times(shown), (
            "python tools/recipe_pages.py --write"
        )
        for picture, made in recipe_pages.pictures_of(page):
            assert recipe_pages.difference(picture, made) < 2


def test_the_index_lists_all_programs_and_pages() -> None:
    index = (recipe_pages.PAGES / "index.md").read_text()
    names = [path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "_"))]
    assert [name for name in names if name not in index] == []
    assert [link for link in re.findall(r"\]\(([\w-]+\.md)\)", index) if not (recipe_pages.PAGES / link).exists()] == []
    assert [page.name for page in recipe_pages.PAGES.glob("*.md") if f"({page.name})" not in index] == ["index.md"]


def test_product_catalogue_asks_before_it_spends(
    folder: Path, sandbox: PooledSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_samples.products(folder)
    catalogue = example("product_catalogue", monkeypatch)
    run = partial(catalogue.main, Path("photos"), Path("out.parquet"), model="moondream3-preview")
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    run(yes=False)
    assert sandbox.requests == 2  # a caption and the fields of one photo
    assert not Path("out.parquet").exists()
    run(yes=True)
    assert sandbox.requests == 6
    assert Path("out.parquet").exists()
    run(yes=True)
    assert sandbox.requests == 6
    monkeypatch.setenv("MOONDREAM_BASE_URL", "")
    with pytest.raises(Exception, match="API key"):
        run(yes=True)


def test_product_catalogue_stops_if_the_key_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe_samples.products(folder)
    with PooledSandbox(api_key="right") as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONDREAM_API_KEY", "wrong")
        catalogue = example("product_catalogue", monkeypatch)
        with pytest.raises(AuthenticationError):
            catalogue.main(Path("photos"), Path("out.parquet"), model="moondream3-preview", yes=False)
        assert sandbox.requests <= 2


@pytest.mark.parametrize(
    ("name", "text", "result"),
    [
        ("a.html", '<img src="i.png">', '<img alt="X" src="i.png">'),
        ("a.html", "<IMG SRC=i.png>", '<IMG alt="X" SRC=i.png>'),
        ("a.html", "<p><img\n src='i.png'\n/></p>", "<p><img alt=\"X\"\n src='i.png'\n/></p>"),
        ("a.html", '<img src="i.png" title=" alt=">', '<img alt="X" src="i.png" title=" alt=">'),
        ("a.html", '<img data-alt="no" src="i.png">', '<img alt="X" data-alt="no" src="i.png">'),
        ("a.html", '<img title="a > b" src="i.png">', '<img alt="X" title="a > b" src="i.png">'),
        ("a.html", '<img alt src="i.png"><img ALT="" src="i.png"><img src="i.png" alt>', None),
        ("a.html", '<!-- <img src="i.png"> --><script>"<img src=\'i.png\'>"</script><imgx src="i.png">', None),
        ("a.html", "![](i.png)", None),
        ("a.html", "<img data-src='later.png'>", None),
        ("a.md", "![](i.png)", "![X](i.png)"),
        ("a.md", 'a ![ ](<i.png> "Title") b', 'a ![X ](<i.png> "Title") b'),
        ("a.md", '- <img src="i.png">\r\n\r\n![](i.png)\r\n', '- <img alt="X" src="i.png">\r\n\r\n![X](i.png)\r\n'),
        ("a.md", "![has one](i.png) [![](i.png)](page.html)", "![has one](i.png) [![X](i.png)](page.html)"),
        ("a.md", "`![](i.png)` and ``` ![](i.png) ```", None),
        ("a.md", "```html\n![](i.png)\n```\n\n  ~~~\n<img src='i.png'>\n  ~~~\n", None),
        ("a.md", "a stray ` here\n\n![](i.png)\n\nand ` there", "a stray ` here\n\n![X](i.png)\n\nand ` there"),
    ],
)
def test_alt_text_changes_nothing_else(
    name: str, text: str, result: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alt_text, page = example("alt_text", monkeypatch), Path(name)
    changed = text
    for gap in sorted(alt_text.gaps_in(page, text), reverse=True):
        assert gap.source == "i.png"
        changed = alt_text.insert(changed, gap, "X")
    assert changed == (text if result is None else result)


def test_alt_text_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    alt_text = example("alt_text", monkeypatch)
    alt = 'A "sign" [1] <b> & more'
    html, markdown = (alt_text.Gap(Path(name), 0, "i.png", is_markdown) for name, is_markdown in (("h", 0), ("m", 1)))
    assert alt_text.insert("", html, alt) == ' alt="A &quot;sign&quot; [1] &lt;b&gt; &amp; more"'
    assert alt_text.insert("", markdown, alt) == r'A "sign" \[1\] \<b> & more'


def test_alt_text_pays_once_and_keeps_corrections(
    folder: Path, sandbox: PooledSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_samples.site(folder)
    alt_text, site = example("alt_text", monkeypatch), Path("site")
    (site / "more.html").write_text('<img src="missing.png"><img src="images/drawing.svg">')
    (site / "images" / "drawing.svg").write_text("<svg/>")
    assert alt_text.main(site, write=False) == 1
    assert sandbox.requests == 0
    assert alt_text.main(site, write=True) == 1  # two images cannot be described, the others are
    assert sandbox.requests == 2  # one of the three is there twice
    memory = site / "alt-text.json"
    memory.write_text(memory.read_text().replace("A red circle on a white background.", "Our new ball"))
    (site / "images" / "ball.png").rename(site / "renamed.png")
    (site / "more.html").write_text('<img src="renamed.png?v=2">')
    assert alt_text.main(site, write=True) == 0
    assert (site / "more.html").read_text() == '<img alt="Our new ball" src="renamed.png?v=2">'
    assert sandbox.requests == 2


def test_blur_faces_leaves_originals_alone(
    folder: Path, sandbox: PooledSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_samples.photos(folder)
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.*")}
    blur_faces = example("blur_faces", monkeypatch)
    for out in ("photos", "photos/blurred"):
        with pytest.raises(SystemExit, match="outside"):
            blur_faces.main(Path("photos"), Path(out), ["pink"], how="blur")
    assert sandbox.requests == 0
    assert blur_faces.main(Path("photos"), Path("out"), ["pink"], how="fill") == 1
    assert {path: path.read_bytes() for path in Path("photos").rglob("*.*")} == before
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == ["out/holiday/ball.png", "out/street.jpg"]
    with Image.open("out/street.jpg") as copy:
        assert not copy.getexif()
        assert max(copy.getpixel((130, 200))) < 10  # a face, filled with black


@pytest.mark.parametrize(
    ("confirm", "answers", "changes"),
    [
        (1, "0110100", ".+.-+-."),
        (2, "0101101001000", "....+...-...."),
        (3, "1101110110001", ".....+.....-."),
    ],
)
def test_an_alarm_is_debounced(confirm: int, answers: str, changes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    debounce = example("camera_alarm", monkeypatch).Debounce(confirm)
    shown = {None: ".", True: "+", False: "-"}
    assert "".join(shown[debounce.add(answer == "1")] for answer in answers) == changes


class Receiver(BaseHTTPRequestHandler):
    """Keeps the JSON that it gets, and answers the first with an error."""

    received: list[Any]

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if len(self.received) == 1 else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    received: list[Any] = []
    handler = type("Handler", (Receiver,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_a_camera_that_fails_is_opened_again_and_a_webhook_may_fail(
    folder: Path,
    sandbox: PooledSandbox,
    receiver: tuple[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    camera_alarm = example("camera_alarm", monkeypatch)
    monkeypatch.setattr(camera_alarm, "RECONNECT", 0)
    url, received = receiver
    opened = 0

    async def source(*args: Any, **options: Any) -> AsyncIterator[Frame]:
        """Stand for a camera that shows red, then white, and cannot be opened every second time."""
        nonlocal opened
        opened += 1
        if opened % 2 == 0:
            raise camera_alarm.ImageError("no signal")
        if opened > 5:
            raise RuntimeError("The test is over.")
        yield Frame(opened, Image.new("RGB", (64, 64), "red" if opened % 4 == 1 else "white"))

    monkeypatch.setattr(camera_alarm, "frames", source)
    with pytest.raises(RuntimeError, match="over"):
        camera_alarm.main("rtsp://c", "Is it red?", webhook=url, folder=folder / "alarms", confirm=1, fps=2)
    assert [event["question"] for event in received] == ["Is it red?"] * 2
    assert sorted(event["picture"] for event in received) == sorted(path.name for path in Path("alarms").iterdir())
    printed = capsys.readouterr()
    assert printed.err.count("The camera failed: no signal") >= 2
    assert printed.err.count("The webhook failed") == 1


def test_contact_sheet_shows_failed_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PooledSandbox(status=400, times=0) as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        film(folder / "film.mp4")
        contact_sheet = example("contact_sheet", monkeypatch)
        contact_sheet.main(Path("film.mp4"), Path("sheet.png"), every=1, columns=2)
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 2 * 320 + 3 * 12


def test_coco_eval_counts(folder: Path, sandbox: PooledSandbox, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    recipe_samples.coco(folder)
    Path("images/2.png").write_bytes(b"not an image")  # left out: one object and the one that is not there
    coco_eval = example("coco_eval", monkeypatch)
    run = partial(coco_eval.main, Path("instances.json"), Path("images"), Path("out.jsonl"))
    run(all_categories=False)
    requests = sandbox.requests
    printed = capsys.readouterr()
    assert "image 2: failed, left out" in printed.err
    assert "IoU 0.50: precision 1.000, recall 1.000, F1 1.000" in printed.out
    assert "IoU 0.75: precision 0.667, recall 0.667, F1 0.667" in printed.out
    run(all_categories=False)
    assert sandbox.requests == requests


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py") if "argparse" in path.read_text()))
def test_programs_have_help(name: str) -> None:
    output, status = recipe_pages.run(f"python {name} --help")
    assert status == 0
    assert output.startswith("usage:")


@pytest.mark.parametrize(
    "command", ["alt_text.py nope --check", "blur_faces.py nope out", "product_catalogue.py nope out"]
)
def test_a_missing_folder_is_an_error(command: str, folder: Path) -> None:
    output, status = recipe_pages.run(f"python {command}")
    assert status == 2
    assert "there is no folder nope" in output
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("sandbox")
def test_other_examples(folder: Path, scene: bytes) -> None:
    (folder / "a.png").write_bytes(scene)
    film(folder / "film.mp4")
    output, _ = recipe_pages.run("python many.py red a.png nope.png")
    assert "a.png: 1 x red; A red square" in output
    assert "nope.png: failed: There is no file" in output
    assert "tokens" in output
    output, _ = recipe_pages.run("python film_to_table.py film.mp4")
    assert "rows in film.mp4.csv, 0 of them failed" in output
    output, _ = recipe_pages.run("python crop_objects.py a.png red")
    assert output == "a-red-0.png: 240 x 240\n1 object\n"
    with Image.open("a-red-0.png") as crop:
        assert crop.size == (240, 240)
