"""Blur faces and number plates on all photos of a folder. The originals stay as they are.

    pip install moondream-async
    python blur_faces.py photos blurred

A photo that fails is not copied. Photos that are in the output folder are skipped, so the same command resumes. The
copies have no EXIF data, so they do not say where they were taken. What the model misses stays visible: look at the
copies before you publish them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from moondream_async import Client, MoondreamError
from moondream_async.vision import redact

How = Literal["blur", "pixelate", "fill"]

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".tif", ".tiff"}
OTHER_SUFFIXES = {".avif", ".gif", ".heic"}  # saved as JPEG


def main(photos: Path, out: Path, labels: Sequence[str], *, how: How) -> int:
    if out.resolve().is_relative_to(photos.resolve()):
        raise SystemExit("The output folder must be outside the folder of photos.")
    targets = {
        path: out / (relative if path.suffix.lower() in SUFFIXES else relative.with_name(f"{relative.name}.jpg"))
        for path in sorted(photos.rglob("*"))
        if path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES
        for relative in (path.relative_to(photos),)
    }
    todo = [path for path, target in targets.items() if not target.exists()]
    failed = 0
    with Client() as client:
        for outcome in client.map("detect", todo, object=list(labels), ordered=True, progress=True):
            path = Path(outcome.id)
            try:
                result = outcome.unwrap()
                picture = redact(path, result, how=how, margin=0.15)
            except MoondreamError as exc:
                print(f"{path}: failed: {exc}", file=sys.stderr)
                failed += 1
                continue
            target = targets[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".partial-{target.name}")
            picture.save(partial, quality=90)
            partial.replace(target)
            print(f"{target}: {result}")
    print(f"{len(todo) - failed} photos done, {failed} failed, {len(targets) - len(todo)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--find", action="append", metavar="WHAT", help="default: face and license plate")
    parser.add_argument("--how", choices=["blur", "pixelate", "fill"], default="blur")
    options = parser.parse_args()
    if not options.photos.is_dir():
        parser.error(f"there is no folder {options.photos}")
    sys.exit(main(options.photos, options.out, options.find or ["face", "license plate"], how=options.how))
