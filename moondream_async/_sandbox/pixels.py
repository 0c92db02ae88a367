"""Image analysis without a model: named colors, connected regions, their outlines."""

from __future__ import annotations

import functools
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import groupby

import attrs
from PIL import Image, ImageFilter

GRID = 384  # cells along the longer side; positions are accurate to about 1/384
_MIN_AREA = 0.001  # of the image's area; smaller regions count as noise
_MAX_REGIONS = 150

_SHADES: dict[str, list[tuple[int, int, int]]] = {
    "black": [(0, 0, 0), (25, 25, 25), (40, 40, 40)],
    "white": [(255, 255, 255), (238, 238, 238)],
    "grey": [(128, 128, 128), (80, 80, 80), (170, 170, 170), (205, 205, 205)],
    "red": [(255, 0, 0), (200, 0, 0), (220, 40, 40), (140, 0, 0), (255, 70, 60)],
    "orange": [(255, 140, 0), (255, 165, 0), (240, 120, 30), (255, 110, 20)],
    "yellow": [(255, 255, 0), (255, 220, 0), (240, 230, 80), (255, 240, 130)],
    "green": [(0, 255, 0), (0, 128, 0), (40, 160, 60), (90, 180, 90), (0, 80, 0), (130, 200, 60), (144, 238, 144)],
    "cyan": [(0, 255, 255), (0, 190, 200), (100, 220, 220), (0, 128, 128), (135, 206, 235)],
    "blue": [(0, 0, 255), (0, 0, 140), (30, 90, 220), (60, 120, 255), (100, 160, 240), (40, 60, 160)],
    "purple": [(128, 0, 128), (100, 30, 170), (150, 70, 200), (75, 0, 130), (190, 110, 230)],
    "pink": [(255, 0, 255), (255, 105, 180), (255, 180, 200), (220, 60, 150)],
    "brown": [(139, 69, 19), (101, 67, 33), (160, 110, 60), (90, 50, 20)],
}
COLORS = tuple(_SHADES)
ALIASES = {"gray": "grey", "teal": "cyan", "turquoise": "cyan", "violet": "purple", "magenta": "pink"}

Run = tuple[int, int, int]  # y, first x, last x + 1
Loop = list[tuple[float, float]]


@attrs.frozen(eq=False)
class Region:
    """A connected area of one color, on a grid of `columns` x `rows` cells."""

    color: str
    runs: list[Run]
    columns: int
    rows: int

    @functools.cached_property
    def cells(self) -> int:
        """Number of cells that the region covers."""
        return sum(end - start for _, start, end in self.runs)

    @property
    def share(self) -> float:
        """Share of the image's area that the region covers, 0..1."""
        return self.cells / (self.columns * self.rows)

    @functools.cached_property
    def bounds(self) -> tuple[int, int, int, int]:
        """First column, first row, last column + 1, last row + 1."""
        return (
            min(start for _, start, _ in self.runs),
            min(y for y, _, _ in self.runs),
            max(end for _, _, end in self.runs),
            max(y for y, _, _ in self.runs) + 1,
        )

    @property
    def box(self) -> dict[str, float]:
        """Bounding box, 0..1 of the image."""
        left, top, right, bottom = self.bounds
        return {
            "x_min": left / self.columns,
            "y_min": top / self.rows,
            "x_max": right / self.columns,
            "y_max": bottom / self.rows,
        }

    @property
    def center(self) -> tuple[float, float]:
        """A point inside the region, near its center of mass, 0..1 of the image."""
        x = sum((start + end) / 2 * (end - start) for _, start, end in self.runs) / self.cells
        y = sum((row + 0.5) * (end - start) for row, start, end in self.runs) / self.cells
        inside = min(self.runs, key=lambda r: (r[0] + 0.5 - y) ** 2 + max(r[1] - x, x - r[2], 0) ** 2)
        x = min(max(x, inside[1] + 0.5), inside[2] - 0.5)
        return x / self.columns, (inside[0] + 0.5) / self.rows

    def contains(self, x: float, y: float) -> bool:
        """Return whether a point, 0..1 of the image, lies in the region."""
        column, row = int(x * self.columns), int(y * self.rows)
        return any(r == row and start <= column < end for r, start, end in self.runs)

    def shape(self, width: int, height: int) -> str:
        """Name the shape by the share of its box that it fills; `width` and `height` of the image in pixels."""
        left, top, right, bottom = self.bounds
        fill = self.cells / ((right - left) * (bottom - top))
        box_width, box_height = (right - left) / self.columns * width, (bottom - top) / self.rows * height
        is_even = 0.9 < box_width / box_height < 1.11
        if fill > 0.93:
            return "square" if is_even else "rectangle"
        if 0.74 < fill < 0.83:
            return "circle" if is_even else "ellipse"
        if 0.44 < fill < 0.56:
            return "triangle"
        return "shape"

    def outline(self, tolerance: float) -> list[Loop]:
        """Return the outer edge and the holes as closed loops in grid units; holes run in the opposite direction."""
        loops = [simplify(loop, tolerance) for loop in _edge_loops(self.runs)]
        return [loop for loop in loops if len(loop) >= 3]


@attrs.frozen(eq=False)
class Scene:
    """The analysis of an image.

    Attributes:
        width: Width of the file in pixels.
        height: Height of the file in pixels.
        background: The most frequent color of the border.
        colors: Names of colors with their share of the area, largest first.
        regions: Regions that are not background, largest first; at most 150.
    """

    width: int
    height: int
    background: str
    colors: list[tuple[str, float]]
    regions: list[Region]


@functools.lru_cache(maxsize=64)
def analyze(data: bytes) -> Scene:
    """Analyze an image file, read as the engine reads it: EXIF orientation ignored, alpha dropped."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        picture = image.convert("RGB")
    scale = min(1.0, GRID / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        picture = picture.resize(size, Image.Resampling.BOX)
    names = _color_indices(picture)
    background = _border_color(names, size)
    regions = [r for r in _regions(names, size) if not _is_background(r, background)]
    counts = Counter(names)
    total = size[0] * size[1]
    return Scene(
        width=width,
        height=height,
        background=COLORS[background],
        colors=[(COLORS[index], count / total) for index, count in counts.most_common()],
        regions=sorted(regions, key=lambda r: -r.cells)[:_MAX_REGIONS],
    )


def _color_indices(picture: Image.Image) -> bytes:
    """Return one byte per pixel, the index of the nearest named color, with small specks smoothed."""
    indices = picture.quantize(palette=_palette(), dither=Image.Dither.NONE)
    owners = [COLORS.index(name) for name, shades in _SHADES.items() for _ in shades]
    indexed = Image.frombytes("L", picture.size, indices.tobytes()).point(owners + [0] * (256 - len(owners)))
    if min(picture.size) >= 16:
        indexed = indexed.filter(ImageFilter.ModeFilter(5))
    return indexed.tobytes()


def _palette() -> Image.Image:
    """Return a new palette image: Pillow keeps its color cache in it, which threads must not share."""
    flat = [channel for shades in _SHADES.values() for shade in shades for channel in shade]
    palette = Image.new("P", (1, 1))
    palette.putpalette(flat + flat[:3] * (256 - len(flat) // 3))
    return palette


def _border_color(names: bytes, size: tuple[int, int]) -> int:
    width, height = size
    border = names[:width] + names[-width:] + names[::width] + names[width - 1 :: width]
    return Counter(border[: 2 * width + 2 * height]).most_common(1)[0][0]


def _is_background(region: Region, background: int) -> bool:
    left, top, right, bottom = region.bounds
    touches = left == 0 or top == 0 or right == region.columns or bottom == region.rows
    return region.color == COLORS[background] and touches


def _regions(names: bytes, size: tuple[int, int]) -> list[Region]:
    """Return the connected regions: runs of each row, joined with runs of the same color in the row above."""
    width, height = size
    runs: list[tuple[Run, int]] = []
    parent: list[int] = []

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    above = range(0)
    for y in range(height):
        first, x = len(runs), 0
        for color, group in groupby(names[y * width : (y + 1) * width]):
            length = sum(1 for _ in group)
            runs.append(((y, x, x + length), color))
            parent.append(len(parent))
            x += length
        row = range(first, len(runs))
        _join(runs, parent, root, above, row)
        above = row
    groups: defaultdict[int, list[Run]] = defaultdict(list)
    for index, (run, _) in enumerate(runs):
        groups[root(index)].append(run)
    regions = (Region(COLORS[runs[key][1]], group, width, height) for key, group in groups.items())
    return [region for region in regions if region.share >= _MIN_AREA]


def _join(runs: list[tuple[Run, int]], parent: list[int], root: Callable[[int], int], above: range, row: range) -> None:
    upper = list(above)
    i = 0
    for j in row:
        (_, start, end), color = runs[j]
        while i < len(upper) and runs[upper[i]][0][2] <= start:
            i += 1
        k = i
        while k < len(upper) and runs[upper[k]][0][1] < end:
            if runs[upper[k]][1] == color:
                parent[root(j)] = root(upper[k])
            k += 1


def _edge_loops(runs: list[Run]) -> list[Loop]:
    """Chain the cell edges between inside and outside; the inside is to the right of each edge."""
    inside = {(x, y) for y, start, end in runs for x in range(start, end)}
    edges: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for x, y in inside:
        if (x, y - 1) not in inside:
            edges[x, y].append((x + 1, y))
        if (x + 1, y) not in inside:
            edges[x + 1, y].append((x + 1, y + 1))
        if (x, y + 1) not in inside:
            edges[x + 1, y + 1].append((x, y + 1))
        if (x - 1, y) not in inside:
            edges[x, y + 1].append((x, y))
    loops: list[Loop] = []
    while edges:
        start = min(edges)
        loop: Loop = []
        corner, direction = start, (1, 0)
        while True:
            candidates = edges[corner]
            # Where two cells touch only at a corner, turn right, to stay with the same cell.
            right = (corner[0] - direction[1], corner[1] + direction[0])
            step = right if right in candidates else candidates[0]
            candidates.remove(step)
            if not candidates:
                del edges[corner]
            direction = (step[0] - corner[0], step[1] - corner[1])
            loop.append(corner)
            corner = step
            if corner == start:
                break
        loops.append(loop)
    return loops


def simplify(loop: Loop, tolerance: float) -> Loop:
    """Drop the corners of a closed loop that lie within `tolerance` of the line without them (Douglas-Peucker)."""
    if len(loop) < 4:
        return loop
    far = max(range(len(loop)), key=lambda i: (loop[i][0] - loop[0][0]) ** 2 + (loop[i][1] - loop[0][1]) ** 2)
    return _simplify_line(loop[: far + 1], tolerance)[:-1] + _simplify_line([*loop[far:], loop[0]], tolerance)[:-1]


def _simplify_line(line: Loop, tolerance: float) -> Loop:
    keep = {0, len(line) - 1}
    spans = [(0, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        index, distance = 0, 0.0
        for i in range(first + 1, last):
            d = _distance(line[i], line[first], line[last])
            if d > distance:
                index, distance = i, d
        if distance > tolerance:
            keep.add(index)
            spans += [(first, index), (index, last)]
    return [line[i] for i in sorted(keep)]


def _distance(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    if length == 0:
        return math.dist(p, a)
    return abs(dx * (p[1] - a[1]) - dy * (p[0] - a[0])) / length
