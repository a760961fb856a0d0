"""Tools for pictures, sound and films."""

from __future__ import annotations

from services.runtime.toolbox.media import (
    audio_processor,
    image_processor,
    video_processor,
)

MODULES = (audio_processor, image_processor, video_processor)
