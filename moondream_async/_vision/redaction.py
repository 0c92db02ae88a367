"""Make what was found in an image unrecognizable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from .._images.options import parse_color
from .._images.prepare import upright
from .._public import public
from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Result, SegmentResult
from .crops import check_margin, check_same_shape, enlarged
from .masks import mask

if TYPE_CHECKING:
    from typing import Any

    from PIL.Image import Image

How: TypeAlias = Literal["blur", "pixelate", "fill"]

_CELLS = 8  # along the longer side of a region; all finer detail is lost, so it cannot be restored
_CELL_SIZE = 4  # least pixels across a cell


@public("vision")
def redact(
    image: Any, *results: Result, how: How = "blur", color: str | tuple[int, int, int] = "black", margin: float = 0.1
) -> Image:
    """Make what was found unrecognizable, on a copy of the image: faces, number plates, documents.

    A box is redacted as a whole, an outline along its edge, and a segment whose path is missing by its box. What the
    model did not find stays visible: check the result before you publish it.

    ```python
    redact("photo.jpg", boxes, how="pixelate").save("redacted.png")
    ```

    Args:
        image: The image that the results are for: anything the skills accept except a URL. EXIF orientation is applied
            first, because results refer to the upright image.
        results: Results of `detect` and `segment`.
        how: `"blur"` (default) and `"pixelate"` keep 8 cells along the longer side of each box, or fewer so that each
            is at least 4 pixels wide: nothing can be restored. `"fill"` covers it with `color`.
        color: A color name, `"#rrggbb"` or `(r, g, b)`, for `"fill"`. Default black.
        margin: Margin to add to boxes on each side, as a fraction of the box's size. Default 0.1. Outlines have none.

    Returns:
        A Pillow image of mode RGB.

    Raises:
        ImageError: The image cannot be used.
        ConfigurationError: An argument is not valid, a result has no boxes or outline or is for an image of another
            shape, or the extra `vision` is missing for a segment.
        PathError: A segment's path cannot be parsed or filled.
    """
    if how not in ("blur", "pixelate", "fill"):
        raise ConfigurationError(f"how must be 'blur', 'pixelate' or 'fill', not {how!r}.")
    check_margin(margin)
    if margin < 0:
        raise ConfigurationError(f"margin must be a number of at least 0, not {margin!r}.")
    fill = parse_color("color", color)
    picture = upright(image).copy()
    for result in results:
        check_same_shape(picture, result)
        if isinstance(result, SegmentResult):
            _redact_outline(picture, result, how, fill, float(margin))
        elif isinstance(result, DetectResult):
            for box in result.objects:
                _redact_box(picture, enlarged(box, float(margin)), how, fill)
        else:
            raise ConfigurationError(
                f"results must be results of detect and segment, not {type(result).__name__}; "
                "for some of the boxes, pass attrs.evolve(result, objects=[...])."
            )
    return picture


def _redact_box(picture: Image, box: BoundingBox, how: How, color: tuple[int, int, int]) -> None:
    region = box.to_pixels(*picture.size)
    if region[2] > region[0] and region[3] > region[1]:
        picture.paste(_obscured(picture.crop(region), how, color), region)


def _redact_outline(
    picture: Image, result: SegmentResult, how: How, color: tuple[int, int, int], margin: float
) -> None:
    if not result.path.strip():
        if result.bbox is not None:
            _redact_box(picture, enlarged(result.bbox, margin), how, color)
        return
    stencil = mask(result, picture.size, antialias=True)
    region = stencil.getbbox()
    if region is not None:
        picture.paste(_obscured(picture.crop(region), how, color), region, stencil.crop(region))


def _obscured(part: Image, how: How, color: tuple[int, int, int]) -> Image:
    from PIL import Image as PillowImage

    if how == "fill":
        return PillowImage.new("RGB", part.size, color)
    scale = min(_CELLS, max(part.size) // _CELL_SIZE) / max(part.size)
    cells = max(1, round(part.width * scale)), max(1, round(part.height * scale))
    small = part.resize(cells, PillowImage.Resampling.BOX)
    resampling = PillowImage.Resampling.NEAREST if how == "pixelate" else PillowImage.Resampling.BILINEAR
    return small.resize(part.size, resampling)
