"""Plain image analysis: colours by name, connected regions, their outlines. No model, no guess."""

from __future__ import annotations

import functools
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import groupby

import attrs
from PIL import Image, ImageFilter

GRID = 384  # the longer side of the grid that is analysed; positions are right to about 1/384
SMALLEST = 0.001  # of the image's area; a smaller region is taken for noise
MOST_REGIONS = 150

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

Run = tuple[int, int, int]  # y, first x, x after the last
Loop = list[tuple[float, float]]


@attrs.frozen(eq=False)
class Region:
    """A connected area of one colour, on a grid of `columns` x `rows` cells."""

    color: str
    runs: list[Run]
    columns: int
    rows: int

    @functools.cached_property
    def cells(self) -> int:
        """How many cells it covers."""
        return sum(end - start for _, start, end in self.runs)

    @property
    def share(self) -> float:
        """The part of the image's area it covers, 0..1."""
        return self.cells / (self.columns * self.rows)

    @functools.cached_property
    def bounds(self) -> tuple[int, int, int, int]:
        """First column, first row, column after the last, row after the last."""
        return (
            min(start for _, start, _ in self.runs),
            min(y for y, _, _ in self.runs),
            max(end for _, _, end in self.runs),
            max(y for y, _, _ in self.runs) + 1,
        )

    @property
    def box(self) -> dict[str, float]:
        """The box around it, 0..1 of the image."""
        left, top, right, bottom = self.bounds
        return {
            "x_min": left / self.columns,
            "y_min": top / self.rows,
            "x_max": right / self.columns,
            "y_max": bottom / self.rows,
        }

    @property
    def center(self) -> tuple[float, float]:
        """A point inside it: the middle of the run that is nearest to its centre of mass."""
        x = sum((start + end) / 2 * (end - start) for _, start, end in self.runs) / self.cells
        y = sum((row + 0.5) * (end - start) for row, start, end in self.runs) / self.cells
        inside = min(self.runs, key=lambda r: (r[0] + 0.5 - y) ** 2 + max(r[1] - x, x - r[2], 0) ** 2)
        x = min(max(x, inside[1] + 0.5), inside[2] - 0.5)
        return x / self.columns, (inside[0] + 0.5) / self.rows

    def contains(self, x: float, y: float) -> bool:
        """Whether the point, 0..1 of the image, lies in it."""
        column, row = int(x * self.columns), int(y * self.rows)
        return any(r == row and start <= column < end for r, start, end in self.runs)

    def shape(self, width: int, height: int) -> str:
        """A word for its shape, from how much of its box it fills; sizes in pixels of the image."""
        left, top, right, bottom = self.bounds
        fill = self.cells / ((right - left) * (bottom - top))
        box_width, box_height = (right - left) / self.columns * width, (bottom - top) / self.rows * height
        even = 0.9 < box_width / box_height < 1.11
        if fill > 0.93:
            return "square" if even else "rectangle"
        if 0.74 < fill < 0.83:
            return "circle" if even else "ellipse"
        if 0.44 < fill < 0.56:
            return "triangle"
        return "shape"

    def outline(self, tolerance: float) -> list[Loop]:
        """Its outer edge and its holes, as closed loops in grid units; holes run the other way round."""
        loops = [simplify(loop, tolerance) for loop in _edge_loops(self.runs)]
        return [loop for loop in loops if len(loop) >= 3]


@attrs.frozen(eq=False)
class Scene:
    """What an image shows.

    Attributes:
        width: Pixels across, as received.
        height: Pixels down, as received.
        background: The colour that most of the image's border has.
        colors: Colour names with their share of the area, largest first.
        regions: Salient regions (not background), largest first.
    """

    width: int
    height: int
    background: str
    colors: list[tuple[str, float]]
    regions: list[Region]


@functools.lru_cache(maxsize=64)
def analyse(data: bytes) -> Scene:
    """Analyse the bytes of an image file, as the engine reads them: no EXIF turn, alpha dropped."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        picture = image.convert("RGB")
    scale = min(1.0, GRID / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        picture = picture.resize(size, Image.Resampling.BOX)
    names = _named(picture)
    background = _border_color(names, size)
    regions = [r for r in _regions(names, size) if not _is_background(r, background)]
    counts = Counter(names)
    total = size[0] * size[1]
    return Scene(
        width=width,
        height=height,
        background=COLORS[background],
        colors=[(COLORS[index], count / total) for index, count in counts.most_common()],
        regions=sorted(regions, key=lambda r: -r.cells)[:MOST_REGIONS],
    )


def _named(picture: Image.Image) -> bytes:
    """One byte a pixel: the index of the nearest named colour, small specks smoothed away."""
    indices = picture.quantize(palette=_palette(), dither=Image.Dither.NONE)
    owners = [COLORS.index(name) for name, shades in _SHADES.items() for _ in shades]
    named = Image.frombytes("L", picture.size, indices.tobytes()).point(owners + [0] * (256 - len(owners)))
    if min(picture.size) >= 16:
        named = named.filter(ImageFilter.ModeFilter(5))
    return named.tobytes()


def _palette() -> Image.Image:
    """A new palette image: Pillow keeps its colour cache in the palette, and threads must not share that."""
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
    """Connected regions: runs of each row, joined with the runs they touch in the row above."""
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
    found = (Region(COLORS[runs[key][1]], group, width, height) for key, group in groups.items())
    return [region for region in found if region.share >= SMALLEST]


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
    """Chain the cell edges between inside and outside; the inside lies to the right of each edge."""
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
        here, heading = start, (1, 0)
        while True:
            ahead = edges[here]
            # Where two cells touch only at a corner, turn right: stay with the same cell.
            right = (here[0] - heading[1], here[1] + heading[0])
            step = right if right in ahead else ahead[0]
            ahead.remove(step)
            if not ahead:
                del edges[here]
            heading = (step[0] - here[0], step[1] - here[1])
            loop.append(here)
            here = step
            if here == start:
                break
        loops.append(loop)
    return loops


def simplify(loop: Loop, tolerance: float) -> Loop:
    """Drop the corners of a closed loop that lie within `tolerance` of the line without them (Douglas-Peucker)."""
    if len(loop) < 4:
        return loop
    far = max(range(len(loop)), key=lambda i: (loop[i][0] - loop[0][0]) ** 2 + (loop[i][1] - loop[0][1]) ** 2)
    return _thin(loop[: far + 1], tolerance)[:-1] + _thin([*loop[far:], loop[0]], tolerance)[:-1]


def _thin(line: Loop, tolerance: float) -> Loop:
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
