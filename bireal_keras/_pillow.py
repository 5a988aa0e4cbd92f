"""Pillow, or the error that says how to get it: models run without, images do not."""

try:
    from PIL import Image, ImageDraw, ImageFile, ImageFont
except ModuleNotFoundError as error:
    raise ImportError("Images need Pillow, which is not installed: pip install Pillow.") from error

__all__ = ["Image", "ImageDraw", "ImageFile", "ImageFont"]
