"""How alike two videos are, frame by frame; the measures are scikit-image's."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

Array = NDArray[np.float64]

DATA_RANGE = 2.0
"""Frames are in [-1, 1]."""
WINDOW = 7
"""Side of the square that structural similarity looks at, and so the least side of a frame."""


def psnr_db(candidate_CHW: Array, reference_CHW: Array) -> float:
    """Peak signal-to-noise ratio in dB over all channels; infinite for equal frames."""
    return float(peak_signal_noise_ratio(reference_CHW, candidate_CHW, data_range=DATA_RANGE))


def ssim(candidate_CHW: Array, reference_CHW: Array) -> float:
    """Mean structural similarity over 7 x 7 windows and channels; 1 for equal frames."""
    return float(
        structural_similarity(
            reference_CHW, candidate_CHW, win_size=WINDOW, data_range=DATA_RANGE, channel_axis=0
        )
    )


FRAME_METRICS: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "psnr_db": psnr_db,
    "ssim": ssim,
}
"""Columns of the parity table that frames have beside those of every output."""


def are_frames(video: Array) -> bool:
    """Whether an array is a video [T, 3, H, W] that the metrics can look at."""
    return video.ndim == 4 and video.shape[1] == 3 and min(video.shape[2:]) >= WINDOW


def worst_frame(candidate_TCHW: Array, reference_TCHW: Array) -> dict[str, Any]:
    """Each metric of the frame that is worst by it; NaN where any frame's is."""
    pairs = list(zip(candidate_TCHW, reference_TCHW, strict=True))
    return {
        name: float(np.min([metric(left, right) for left, right in pairs]))
        for name, metric in FRAME_METRICS.items()
    }
