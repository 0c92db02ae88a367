"""Compare Moondream's boxes with a COCO ground truth, by pycocotools.

    pip install moondream-async pycocotools
    python coco_eval.py instances.json images detections.jsonl

If it is interrupted, the same command resumes from detections.jsonl. Each image is searched for the categories that it
has. That is cheap, but hides wrong boxes of other categories: `--all-categories` searches it for all.

Moondream sends no confidence, so every box gets the score 1 (a model's own `score` is kept). AP averages precision over
a ranking, and here there is none: it is about precision x recall, and depends a little on the order of the images. Do
not compare it with detectors that rank their boxes; compare precision, recall and F1, which are printed, too.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from moondream_async import Client
from moondream_async.bulk import read_results


def detect(truth: Any, images: Path, out: Path, *, all_categories: bool) -> None:
    """Search the images, and write the results to a file."""
    names = {number: category["name"] for number, category in truth.cats.items()}
    items: list[tuple[int, Path, dict[str, Any]]] = []
    for number, image in truth.imgs.items():
        present = {annotation["category_id"] for annotation in truth.imgToAnns[number]}
        labels = [name for category, name in names.items() if all_categories or category in present]
        if labels:
            items.append((number, images / image["file_name"], {"object": labels}))
    with Client() as client:
        print(client.run("detect", items, out, progress=True))


def boxes_of(truth: Any, results: Path) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the ids of the images that have results, and their boxes in COCO's format."""
    categories = {category["name"]: number for number, category in truth.cats.items()}
    done: list[int] = []
    boxes: list[dict[str, Any]] = []
    for outcome in read_results(results):
        if not outcome.ok:
            print(f"image {outcome.id}: failed, left out: {outcome.error}", file=sys.stderr)
            continue
        done.append(outcome.id)
        width, height = truth.imgs[outcome.id]["width"], truth.imgs[outcome.id]["height"]
        for box in outcome.result.objects:
            edges = [box.x_min * width, box.y_min * height, box.width * width, box.height * height]
            score, category = box.extra.get("score", 1.0), categories[box.label]
            boxes.append({"image_id": outcome.id, "category_id": category, "bbox": edges, "score": score})
    return done, boxes


def counts(evaluation: Any, iou: float) -> tuple[int, int, int]:
    """Return the numbers of true positives, false positives and false negatives, for objects of any size."""
    at = [round(float(threshold), 2) for threshold in evaluation.params.iouThrs].index(iou)
    everything = evaluation.params.areaRng[0]
    found = [each for each in evaluation.evalImgs if each is not None and each["aRng"] == everything]
    matched = sum(int(((each["dtMatches"][at] > 0) & ~each["dtIgnore"][at]).sum()) for each in found)
    detected = sum(int((~each["dtIgnore"][at]).sum()) for each in found)
    objects = sum(int((each["gtIgnore"] == 0).sum()) for each in found)
    return matched, detected - matched, objects - matched


def main(annotations: Path, images: Path, out: Path, *, all_categories: bool) -> None:
    truth: Any = COCO(os.fspath(annotations))
    detect(truth, images, out, all_categories=all_categories)
    done, boxes = boxes_of(truth, out)
    if not boxes:
        raise SystemExit("No boxes were found.")
    evaluation: Any = COCOeval(truth, truth.loadRes(boxes), "bbox")
    evaluation.params.imgIds = done
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    for iou in (0.5, 0.75):
        right, wrong, missed = counts(evaluation, iou)
        precision, recall = right / max(1, right + wrong), right / max(1, right + missed)
        f1 = 2 * right / max(1, 2 * right + wrong + missed)
        print(f"IoU {iou:.2f}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="for example instances_val2017.json")
    parser.add_argument("images", type=Path, help="the folder of the images")
    parser.add_argument("out", type=Path, help="a file of results (JSON Lines), to resume from")
    parser.add_argument("--all-categories", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse()))
