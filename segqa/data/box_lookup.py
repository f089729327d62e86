"""Boxes of a file by the image or slice that they belong to, whatever of its names they stand under."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from segqa.data.types import PromptBox

Boxes = Mapping[str, tuple[PromptBox, ...]]
"""Prompt boxes by case, as `read_boxes` reads them."""


class BoxLookup:
    """Finds the boxes of each image, and keeps count of the keys that were used.

    An image is looked up by its key, then as its file calls it (nnU-Net's `CASE_0000`), then by a key that has a folder
    before it (as in COCO), where it is the only one of its name and no other image. Slice 7 of a volume is looked up by
    `stem:7`, with any number of zeros, then as its volume.
    """

    def __init__(self, boxes: Boxes, images: Collection[str], aliases: Mapping[str, str] | None = None) -> None:
        """Set up the lookup.

        Args:
            boxes: Boxes of a file.
            images: Keys of all images: a folder before a name may be that of another one.
            aliases: Key as the image's file has it, where it is another.
        """
        self.boxes = boxes
        self.used: set[str] = set()
        self._aliases = aliases or {}
        self._in_folders = _sole_names(key for key in boxes if key not in images)
        self._of_slices: dict[str, list[str]] = {}
        for key in boxes:
            stem, _, index = key.rpartition(":")
            if index.isascii() and index.isdigit():
                self._of_slices.setdefault(f"{stem}:{index.lstrip('0') or '0'}", []).append(key)

    @property
    def unused(self) -> tuple[str, ...]:
        """Return the keys whose boxes nobody looked up, in the order of the file."""
        return tuple(key for key in self.boxes if key not in self.used)

    def of_image(self, key: str) -> tuple[PromptBox, ...] | None:
        """Return the boxes of an image or a whole volume; `None` when the file does not name it."""
        for name in (key, self._aliases.get(key, key), self._in_folders.get(key, key)):
            if name in self.boxes:
                self.used.add(name)
                return self.boxes[name]
        return None

    def of_slice(self, key: str, index: int) -> tuple[PromptBox, ...]:
        """Return the boxes of a slice alone, without those of its volume; empty when it has none."""
        names = self._of_slices.get(f"{key}:{index}", [])
        self.used.update(names)
        return next((self.boxes[name] for name in reversed(names) if self.boxes[name]), ())


def _sole_names(keys: Iterable[str]) -> dict[str, str]:
    """Return keys by their names alone, where a folder stands before them and only one."""
    names: dict[str, list[str]] = {}
    for key in keys:
        names.setdefault(key.rpartition("/")[2], []).append(key)
    return {name: keys[0] for name, keys in names.items() if len(keys) == 1}
