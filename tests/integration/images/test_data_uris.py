"""`data:` URIs in every form that browsers accept, and text images passed as bytes."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.data_uris import from_data_uri
from moondream_async._images.prepare import encode
from tests.support.pictures import file

_PNG = file(Image.effect_noise((40, 30), 90).convert("RGB"), "PNG")
DATA = _PNG + bytes((1 - len(_PNG)) % 3)  # so that its base64 is padded
TEXT = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()
assert {"+", "/", "="} <= set(TEXT)

HEAD = "data:image/png;base64,"
FORMS = {
    "plain": HEAD + TEXT,
    "unpadded": HEAD + TEXT.rstrip("="),
    "base64url": HEAD + URL_SAFE,
    "base64url, unpadded": HEAD + URL_SAFE.rstrip("="),
    "percent-encoded": HEAD + quote(TEXT, safe=""),
    "percent-encoded in lower case": HEAD + TEXT.replace("+", "%2b").replace("/", "%2f").replace("=", "%3d"),
    "percent-encoded letters": HEAD + "".join(f"%{ord(char):02X}" for char in TEXT),
    "percent-encoded line breaks": HEAD + base64.encodebytes(DATA).decode().replace("\n", "%0D%0A"),
    "line breaks": HEAD + base64.encodebytes(DATA).decode(),
    "blanks, tabs and form feeds": HEAD + " \t".join(TEXT[at : at + 60] for at in range(0, len(TEXT), 60)) + "\f",
    "blank before": " \n" + HEAD + TEXT,
    "blank after": HEAD + TEXT + " \r\n",
    "upper-case scheme": "DATA:image/png;BASE64," + TEXT,
    "mixed case": "Data:Image/PNG;Base64," + TEXT,
    "charset": "data:image/png;charset=utf-8;base64," + TEXT,
    "quoted parameter": 'data:image/png;name="a b.png";base64,' + TEXT,
    "no media type": "data:;base64," + TEXT,
    "wrong media type": "data:text/plain;base64," + TEXT,
    "blanks in the head": "data: image/png ; base64 ," + TEXT,
    "fragment": HEAD + TEXT + "#top",
    "not base64": "data:image/png," + quote(DATA, safe=""),
    "not base64, in lower case": "data:image/png," + "".join(f"%{byte:02x}" for byte in DATA),
    "not base64, as few escapes as can be": "data:," + quote(DATA, safe="!$&'()*+,;=:@/?~"),
    "not base64, wrapped": "data:image/png,\n" + quote(DATA, safe="").replace("%49", "\n%49"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    assert encode(FORMS[name]).data == DATA
    assert encode(FORMS[name].encode()).data == DATA


@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip("="), URL_SAFE, base64.encodebytes(DATA).decode()])
def test_base64_as_text_and_as_bytes(text: str) -> None:
    assert encode(text).data == DATA
    assert encode(text.encode()).data == DATA
    assert encode(bytearray(text.encode())).data == DATA


def test_the_uri_of_an_encoded_image() -> None:
    image = encode(DATA)
    assert encode(image.uri) == image
    assert encode(image.image_url) == image


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (HEAD + TEXT[:400].rstrip("=") + "A", "damaged base64|truncated|cannot be decoded"),
        (HEAD + "AAAAA", "damaged base64: it is truncated"),
        (HEAD + "AA*A", "damaged base64"),
        (HEAD + "AA%2AA", "damaged base64"),
        (HEAD + "AA=A", "damaged base64"),
        (HEAD + "ÄÄÄÄ", "damaged base64"),
        (HEAD + "\ud800AAA", "damaged base64"),
        (HEAD + "%zz%", "damaged base64"),
        (HEAD, "empty"),
        (HEAD + "%20%0A", "empty"),
        (HEAD + "====", "empty"),
        ("data:image/png,", "empty"),
        ("data:image/png;base64", "no comma"),
        ("data:", "no comma"),
        ("data:image/svg+xml,<svg xmlns='x'/>", "SVG"),
        ("data:text/plain,hello", "it is text"),
        ("data:image/png,\ud800", "data: URI"),
        (HEAD + "%41" * 4_000_000, "too large for percent"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_damaged(uri: str, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        encode(uri)
    assert "data: URI (" in str(caught.value)


def test_long_base64_with_escapes() -> None:
    data = DATA * 3_000
    assert from_data_uri(HEAD + quote(base64.b64encode(data).decode(), safe="")) == data
