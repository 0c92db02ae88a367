"""The command `export`."""

from __future__ import annotations

from pathlib import Path

from .._bulk.export import export
from ..errors import ConfigurationError, ResultsFileError
from .arguments import Arguments
from .console import show
from .datasets import Dataset, write

_TABLES = (".csv", ".parquet")
_FORMATS = {".json": "coco", ".geojson": "geojson"}


def run(arguments: Arguments) -> None:
    """Export a results file as a table or a dataset.

    Raises:
        ConfigurationError: The format is not known, or the results cannot be expressed in it.
        ResultsFileError: A file cannot be read or written.
    """
    out: str = arguments.out
    suffix = Path(out).suffix.lower()
    form = arguments.to or _FORMATS.get(suffix)
    if form is None:
        if arguments.images_root is not None:
            raise ConfigurationError("--images-root is for datasets: COCO, YOLO, VOC, LabelMe and GeoJSON.")
        if suffix not in _TABLES:
            endings = ", ".join([*_TABLES, ".json (COCO)", ".geojson"])
            raise ConfigurationError(f"{out!r} must end in {endings}; or choose the format with --to.")
        _make_folder(out)
        rows = export(arguments.results, out)
        show(f"{rows:,} rows in {out}")
        return
    if Path(out).resolve() == Path(arguments.results).resolve():
        raise ConfigurationError(f"{out!r} is the results file itself.")
    images = write(Dataset(arguments.results, arguments.images_root), out, form)
    show(f"{images:,} image{'' if images == 1 else 's'} in {out} ({form})")


def _make_folder(out: str) -> None:
    """Create the folder of a file, as for datasets."""
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ResultsFileError(f"{out!r} cannot be written: {exc.strerror or exc}.") from None
