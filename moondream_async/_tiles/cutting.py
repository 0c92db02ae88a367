"""Cut an image into encoded tiles; blocking, for a worker thread."""

from __future__ import annotations

import attrs

from .._images import sources
from .._images.encoded import EncodedImage
from .._images.options import ImageOptions
from .._images.prepare import encode, upright, upright_size
from .._images.source_names import name_errors
from ..tiles import Tiles
from .layout import Region, grid, regions


@attrs.frozen(eq=False)
class CutImage:
    """An image in tiles.

    Attributes:
        size: Width and height of the upright image that was cut, in pixels.
        original_size: The same of the original, if the image was resized before.
        columns: Number of columns of tiles.
        rows: Number of rows.
        tiles: Each tile's region and encoded image, row by row; only the whole image if it was not cut.
        whole: The encoded whole image; None if it is not asked for, or is the only tile.
    """

    size: tuple[int, int]
    original_size: tuple[int, int]
    columns: int
    rows: int
    tiles: list[tuple[Region, EncodedImage]] = attrs.field(repr=False)
    whole: EncodedImage | None = attrs.field(default=None, repr=False)


def cut(image: object, tiles: Tiles, options: ImageOptions) -> CutImage:
    """Cut an image.

    Args:
        image: Any `ImageInput` except a URL.
        tiles: The grid.
        options: How the tiles and the whole image are prepared.

    Raises:
        ImageError: The image cannot be read, is damaged, or is too large.
    """
    if isinstance(image, EncodedImage):
        source: object = image
    else:
        with name_errors(image):
            source = sources.load(image)
    with name_errors(image):
        width, height = upright_size(source)
        original = source.original_size if isinstance(source, EncodedImage) else (width, height)
        columns, rows = grid(width, height, tiles)
        if columns * rows == 1:
            region = Region(0, 0, width, height)
            return CutImage((width, height), original, 1, 1, [(region, encode(source, options))])
        picture = upright(source, options)
        pieces = [
            (region, encode(picture.crop((region.left, region.top, region.right, region.bottom)), options))
            for region in regions(width, height, columns, rows, tiles.overlap)
        ]
        whole = encode(picture, options) if tiles.whole else None
    return CutImage((width, height), original, columns, rows, pieces, whole)


def planned_grid(image: object, tiles: Tiles) -> tuple[int, int]:
    """Return the columns and rows into which an image would be cut; nothing is decoded.

    Raises:
        ImageError: The image cannot be read.
    """
    with name_errors(image):
        return grid(*upright_size(image), tiles)
