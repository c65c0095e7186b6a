"""What the tests of pages share."""

import struct

import pytest

from probe.reports.page import blocks

BLANK = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="72pt"/>',
    "png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 192, 192),
}


@pytest.fixture
def undrawn(monkeypatch):
    """Pages whose figures are made and not drawn, which takes most of a page's time and is in none of its texts."""
    monkeypatch.setattr(blocks, "_render", lambda figure, image_format, **metadata: BLANK[image_format])
