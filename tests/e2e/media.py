"""Looks into the files that jobs make, with nothing but what Python has."""

import io
import struct
import wave
import zlib


def wav_seconds(data):
    """The duration of a WAV file with something to hear in it."""
    with wave.open(io.BytesIO(data)) as sound:
        assert sound.getsampwidth() == 2 and sound.getnchannels() == 1 and sound.getframerate() >= 8000
        frames = sound.readframes(sound.getnframes())
        samples = struct.unpack(f"<{len(frames) // 2}h", frames)
        assert max(map(abs, samples)) > 1000, "it is not silent"
        return len(samples) / sound.getframerate()


def png_size(data):
    """(width, height) of a PNG file that is whole and shows more than one colour."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    size, pixels, at, kind = None, b"", 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        assert zlib.crc32(kind + chunk) == struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]
        if kind == b"IHDR":
            size = struct.unpack(">II", chunk[:8])
        elif kind == b"IDAT":
            pixels += chunk
        at += 12 + length
    assert at == len(data)
    assert len(set(zlib.decompress(pixels))) > 8, "something is drawn"
    return size


def jpeg_size(data):
    """(width, height) of a JPEG file, from its frame header."""
    assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    at = 2
    while True:
        marker, length = struct.unpack(">2sH", data[at:at + 4])
        assert marker[0] == 0xFF
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5:at + 9])
            return width, height
        at += 2 + length
