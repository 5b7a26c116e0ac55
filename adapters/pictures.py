"""Reading pictures that somebody else made: sniffed, checked, decoded whole, and made into a thumbnail.

Slow and hungry: call it in a thread, and only a few at a time.
"""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image, UnidentifiedImageError

from models.pictures import PIXELS_MAX, THUMBNAIL_SIDE_PX, OutputLost, Picture

THUMBNAIL_QUALITY = 78
THUMBNAIL_EFFORT = 1  # of 6: on photographs more takes half as long again and saves nothing
_CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_END_OF_JPEG = b"\xff\xd9"
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, ArithmeticError, MemoryError)


def read_picture(data: bytes) -> Picture:
    """Check a file's bytes and make the thumbnail.

    Raises OutputLost: wrong_type, too_many_pixels or corrupt_image.
    """
    try:
        # Opening reads the header only; the size is known before anything is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=tuple(_CONTENT_TYPES))
    except Image.DecompressionBombError as error:
        raise OutputLost("too_many_pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise OutputLost("wrong_type", "the file is neither JPEG, PNG nor WebP") from error
    except _BROKEN as error:
        raise OutputLost("corrupt_image", f"the file cannot be read: {error}") from error
    with image:
        width, height = image.size
        if width * height > PIXELS_MAX:
            raise OutputLost("too_many_pixels", f"{width} x {height} is more than {PIXELS_MAX} pixels")
        content_type = _CONTENT_TYPES[image.format or ""]
        # The JPEG decoder fills what is missing with grey and says nothing.
        if content_type == "image/jpeg" and not data.rstrip(b"\0").endswith(_END_OF_JPEG):
            raise OutputLost("corrupt_image", "the file breaks off")
        try:
            thumbnail = _thumbnail(image)
        except _BROKEN as error:
            raise OutputLost("corrupt_image", f"the picture cannot be decoded: {error}") from error
    return Picture(width, height, content_type, hashlib.sha256(data).hexdigest(), thumbnail)


def _thumbnail(image: Image.Image) -> bytes:
    """WebP. Decodes every byte of the picture, so a cut-off file is found here."""
    size = _fitting(image.size)
    if image.format == "JPEG":
        # Decodes at a half, a quarter or an eighth where that is no smaller than the thumbnail; often it is one then.
        image.draft(None, size)
    small = _plain(image)
    if small.size != size:
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    target = io.BytesIO()
    small.save(target, "WEBP", quality=THUMBNAIL_QUALITY, method=THUMBNAIL_EFFORT)
    return target.getvalue()


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """The thumbnail's size: the same shape within the bounds, and never larger than the picture."""
    scale = min(1.0, THUMBNAIL_SIDE_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _plain(image: Image.Image) -> Image.Image:
    """RGB or RGBA, the modes that every step can work with."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    has_transparency = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return image.convert("RGBA" if has_transparency else "RGB")
