"""The image an image-to-video runner starts from."""

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import imageio.v3 as iio
import numpy as np
import torch
from flashdreams.core.io.download import download_to_cache
from torch import Tensor, nn


def read(image_path: str, height: int, width: int) -> Tensor:
    """An image as [T=1, C, H, W] in [-1, 1], stretched to the video's size.

    Bilinear without antialiasing and rounded to whole levels, as the published integrations do
    with OpenCV; the values stay float32 until the network's dtype is known.

    Source: flashdreams dc9e5c0, ``integrations/wan21``, ``Wan21I2VRunner``.
    """
    pixels_HWC = torch.from_numpy(_pixels(_local(image_path)))
    image_TCHW = pixels_HWC.permute(2, 0, 1)[None].float()
    resized = nn.functional.interpolate(image_TCHW, (height, width), mode="bilinear")
    return resized.round() / 127.5 - 1


def is_address(image_path: str) -> bool:
    """Whether the image has to be downloaded."""
    return image_path.startswith(("http://", "https://"))


def _pixels(path: Path) -> np.ndarray:
    return iio.imread(path, plugin="pillow", mode="RGB")


def _local(image_path: str) -> Path:
    """The image as a file, downloaded once.

    The library's cache goes by the last part of the address, which two images may share
    (``000001.png``): the file is therefore named by the whole address.
    """
    if not is_address(image_path):
        return Path(image_path)
    cache = Path(os.environ.get("FLASHDREAMS_CACHE_DIR", "~/.cache/flashdreams")).expanduser()
    name = hashlib.sha256(image_path.encode()).hexdigest()[:16]
    suffix = Path(urlsplit(image_path).path).suffix
    return download_to_cache(
        image_path, cache_dir=cache / "first_frames", filename=name + suffix, validator=_pixels
    )
