"""Draw, crop and export results.

Results also have methods for this: `box.crop(image)`, `result.crops(image)`, `result.to_pixels()`,
`result.annotate(image)`, and for segments `segment.mask()`. Outlines and masks need the extra `vision`.

```python
from moondream_async import Client
from moondream_async.vision import annotate

with Client() as client:
    faces, hand = client.detect("photo.jpg", "face"), client.segment("photo.jpg", "hand")
    annotate("photo.jpg", faces, hand).save("annotated.png")
```
"""

from ._vision.annotate import PALETTE, annotate
from ._vision.annotated_video import annotate_video
from ._vision.crops import crop
from ._vision.exports import (
    to_coco,
    to_csv,
    to_fiftyone,
    to_geojson,
    to_labelme,
    to_supervision,
    to_vlm_dict,
    to_voc,
    to_yolo,
)
from ._vision.label_studio import to_label_studio
from ._vision.redaction import redact

__all__ = [
    "PALETTE",
    "annotate",
    "annotate_video",
    "crop",
    "redact",
    "to_coco",
    "to_csv",
    "to_fiftyone",
    "to_geojson",
    "to_label_studio",
    "to_labelme",
    "to_supervision",
    "to_vlm_dict",
    "to_voc",
    "to_yolo",
]
