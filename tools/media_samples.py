#!/usr/bin/env python3
"""Makes the pictures and recordings of crates/lightglm-media/tests/data, and what Pillow and libsndfile read in them.

    pip install pillow soundfile numpy    (made with Pillow 13.0.0, soundfile 0.14.0 with libsndfile 1.2.2, numpy 2.4.6)
    python3 tools/media_samples.py crates/lightglm-media/tests/data
"""
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
expected = {}

# A picture without edges, so that JPEG keeps it.
y, x = np.mgrid[0:40, 0:56]
rgb = np.stack([x * 4, y * 6, 255 - x * 2 - y * 3], axis=2).clip(0, 255).astype(np.uint8)
picture = Image.fromarray(rgb)
picture.save(out / "baseline.jpg", quality=90, subsampling=0)
picture.save(out / "progressive.jpg", quality=90, progressive=True, subsampling=2)
picture.convert("L").save(out / "grey.jpg", quality=90)
picture.convert("CMYK").save(out / "cmyk.jpg", quality=95)
picture.save(out / "lossy.webp", quality=80)
picture.quantize(16).save(out / "palette.png")
picture.save(out / "plain.png")
frames = [picture, picture.rotate(180)]
frames[0].save(out / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
frames[0].save(out / "animated.png", save_all=True, append_images=frames[1:])
for file in sorted(out.glob("*.jpg")) + sorted(out.glob("*.webp")) + sorted(out.glob("*.png")):
    read = np.asarray(Image.open(file).convert("RGB")).astype(int)
    places = [(0, 0), (20, 28), (39, 55), (5, 50), (30, 3)]
    expected[file.name] = {"height": read.shape[0], "width": read.shape[1],
                           "mean": [round(float(v), 3) for v in read.mean(axis=(0, 1))],
                           "pixels": [[y, x, *map(int, read[y, x])] for y, x in places]}

rate = 16000
t = np.arange(rate // 4) / rate
tone = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 1500 * t)
stereo = np.stack([tone, 0.5 * tone], axis=1)
soundfile.write(out / "tone.flac", tone, rate, subtype="PCM_16")
soundfile.write(out / "stereo.ogg", stereo, 22050, format="OGG", subtype="VORBIS")
soundfile.write(out / "tone.mp3", tone, rate, format="MP3", subtype="MPEG_LAYER_III")
soundfile.write(out / "24bit.wav", stereo, 48000, subtype="PCM_24")
soundfile.write(out / "8bit.wav", tone, 8000, subtype="PCM_U8")
for file in sorted(out.glob("*.flac")) + sorted(out.glob("*.ogg")) + sorted(out.glob("*.mp3")) + sorted(out.glob("*.wav")):
    read, rate = soundfile.read(file, always_2d=True)
    mono = read.mean(axis=1)
    expected[file.name] = {"rate": rate, "samples": len(mono),
                           "loudness": float(np.sqrt((mono ** 2).mean())),
                           "at": [[i, float(mono[i])] for i in range(500, len(mono) - 500, 700)]}
(out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
