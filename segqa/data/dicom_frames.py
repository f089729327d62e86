"""Enhanced DICOM: what a file of many frames says once for all of them, or frame by frame."""

from __future__ import annotations

from pydicom import Dataset

# Only what is read: a group may repeat tags that mean something else at the top of the file.
_GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
)
_ATTRIBUTES = (
    *("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"),
    *("WindowCenter", "WindowWidth", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
)


def split_frames(dataset: Dataset) -> list[Dataset]:
    """Return the geometry, window and rescaling of each frame, as a classic file of one slice has them.

    A frame's own groups go before the shared ones, and these before the top of the file. A file that says
    nothing frame by frame gives one item, which holds for all of its frames.
    """
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    frames = []
    for own in dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()]:
        groups = (_first(item, name) for item in (shared, own) for name in _GROUPS)
        frame = Dataset()
        for source in (dataset, *groups):
            for name in _ATTRIBUTES:
                if name in source:
                    frame.add(source[name])
        frames.append(frame)
    return frames


def _first(dataset: Dataset, name: str) -> Dataset:
    found: Dataset = (dataset.get(name) or [Dataset()])[0]
    return found
