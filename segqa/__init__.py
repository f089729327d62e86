"""segqa: how good is a medical image segmentation when there is no ground truth."""

__version__ = "0.1.0"
