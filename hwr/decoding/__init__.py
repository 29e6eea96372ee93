"""Logits -> text."""

from hwr.decoding.decoder import Decoder, Settings, build, stored

__all__ = ["Decoder", "Settings", "build", "stored"]
