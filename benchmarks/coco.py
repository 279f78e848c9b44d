"""Pictures of COCO with their captions, from a folder with files as COCO publishes them.

- Karpathy's test split, of which figures are published: `dataset_coco.json` from
  https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip, and the pictures in
  `val2014/` from http://images.cocodataset.org/zips/val2014.zip (6 GB).
- Another 5,000 pictures in a smaller download: `annotations/captions_val2017.json` from
  http://images.cocodataset.org/annotations/annotations_trainval2017.zip, and `val2017/` from
  http://images.cocodataset.org/zips/val2017.zip (1 GB).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CAPTIONS = 5  # of a picture, as published figures use


@dataclass(frozen=True, slots=True)
class CaptionedPictures:
    """Pictures, and captions that belong to one of them each.

    Attributes:
        pictures: Their files.
        captions: Texts.
        owners: The position in `pictures` of what each caption describes (n,).
        published: Whether published figures are of these.
    """

    pictures: Sequence[Path]
    captions: Sequence[str]
    owners: NDArray[np.int64]
    published: bool

    def first_captions(self, count: int) -> NDArray[np.int64]:
        """Return the position of the first caption of each of the first pictures."""
        return np.unique(self.owners, return_index=True)[1][:count]


def read_coco(folder: Path, limit: int | None = None) -> CaptionedPictures:
    """Read pictures with captions, either Karpathy's test split or a year of COCO's own.

    Args:
        folder: With dataset_coco.json, or with captions_YEAR.json, by itself or in `annotations/`;
            pictures lie in a folder of the year, such as `val2017/`.
        limit: Pictures at most, the first ones.

    Raises:
        ValueError: there are none, or a file is of another form.
    """
    karpathy = folder / "dataset_coco.json"
    own = [*folder.glob("captions_*.json"), *folder.glob("annotations/captions_*.json")]
    own = [path for path in own if (folder / path.stem.removeprefix("captions_")).is_dir()]
    if not karpathy.is_file() and not own:
        raise ValueError(
            f"{folder} has neither dataset_coco.json nor captions_YEAR.json with a folder YEAR of "
            "pictures: benchmarks/coco.py says where both are"
        )
    path = karpathy if karpathy.is_file() else own[0]
    try:
        stated = json.loads(path.read_text("utf-8"))
        captions_of = _karpathy(stated) if path == karpathy else _coco(stated, path)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a file of captions of COCO: {error!r}") from error
    names = list(captions_of)[:limit]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(f"{folder} lacks {len(missing)} pictures, {missing[0]} is one: add them")
    chosen = [captions_of[name][:_CAPTIONS] for name in names]
    return CaptionedPictures(
        [folder / name for name in names],
        [caption for captions in chosen for caption in captions],
        np.repeat(np.arange(len(names)), [len(captions) for captions in chosen]),
        published=path == karpathy,
    )


def _karpathy(stated: Any) -> dict[str, list[str]]:
    return {
        f"{image['filepath']}/{image['filename']}": [one["raw"] for one in image["sentences"]]
        for image in stated["images"]
        if image["split"] == "test"
    }


def _coco(stated: Any, path: Path) -> dict[str, list[str]]:
    year = path.stem.removeprefix("captions_")
    names = {image["id"]: f"{year}/{image['file_name']}" for image in stated["images"]}
    captions_of: dict[str, list[str]] = {}
    for annotation in stated["annotations"]:
        captions_of.setdefault(names[annotation["image_id"]], []).append(annotation["caption"])
    return dict(sorted(captions_of.items()))
