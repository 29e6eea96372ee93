"""A decoded image -> 8-bit pixels, grey for networks, or grey and coloured for people."""

import numpy as np
from PIL import Image, ImageCms

from hwr.images.exif import WHITE_IS_ZERO

# Values of white in images of more than 8 bits. Cameras and scanners with 10, 12 and 14 bits store them in 16, without saying so.
WHITES = (255, 1023, 4095, 16383, 65535)

# Writing without paper covers at most this fraction of a transparent image, and no more than this fraction of it is dark.
MOST_INK, DARK = 0.5, 0.02


def of(image: Image.Image) -> np.ndarray:
    """The grey pixels of an image, 0 black to 255 white: (H, W) uint8. Transparent pixels become paper: white, or black under white ink."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow stores in 16 or 32
        deep = np.asarray(image).astype(np.float64)
        highest = deep.max(initial=0)
        white = next((value for value in WHITES if highest <= value), WHITES[-1])
        grey = np.clip(np.rint(deep * (255 / white)), 0, 255).astype(np.uint8)
        return 255 - grey if image.info.get(WHITE_IS_ZERO) else grey
    return np.asarray(_opaque(image).convert("L"), np.uint8).copy()


def plain(image: Image.Image) -> Image.Image:
    """An image in 8-bit grey or RGB. Its black, white and paper are those of `of`, so that people see what a network reads."""
    if image.mode.startswith("I"):
        return Image.fromarray(of(image))
    image = _opaque(image)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _opaque(image: Image.Image) -> Image.Image:
    """A transparent image on paper, in RGBA; any other as it is, in a mode that Pillow can convert."""
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, *map(ImageCms.createProfile, ("LAB", "sRGB")), outputMode="RGB")  # type: ignore
    if image.mode == "La":  # as RGBa, multiplied by its opacity
        image = image.convert("LA")
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    paper = "black" if _is_light_ink(image) else "white"
    return Image.alpha_composite(Image.new("RGBA", image.size, paper), image)


def _is_light_ink(image: Image.Image) -> bool:
    """Whether what can be seen is light writing without its background, which nobody would see on white."""
    visible = np.asarray(image.getchannel("A")) >= 128
    if not 0 < visible.mean() <= MOST_INK:
        return False
    return float((np.asarray(image.convert("L"))[visible] < 128).mean()) < DARK
