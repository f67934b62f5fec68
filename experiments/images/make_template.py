"""Make the demo's templates, badge.png and turned.png: the mission badge out of astronaut.png.

They are noisier than the photo, so that no window equals them.
"""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
LEFT, TOP, WIDTH, HEIGHT = 132, 346, 80, 80

photo = np.asarray(Image.open(HERE / "astronaut.png"), dtype=np.float64)
badge = photo[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
# badge.png, brighter, too.
noise = np.random.default_rng(0).normal(0, 12, badge.shape)
noisy = np.clip(np.rint(1.05 * badge + noise), 0, 255).astype(np.uint8)
Image.fromarray(noisy).save(HERE / "badge.png", optimize=True)

# turned.png, the same patch as a sticker: turned by 30 degrees, a quarter larger, cut out round
# (the rest is transparent), and noisy too.
SIDE = 100
large = Image.fromarray(badge.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
turned = np.asarray(large.rotate(30, Image.Resampling.BICUBIC), dtype=np.float64)
noise = np.random.default_rng(1).normal(0, 12, turned.shape)
noisy = np.clip(np.rint(turned + noise), 0, 255).astype(np.uint8)
across = np.arange(SIDE) - (SIDE - 1) / 2
inside = across[:, None] ** 2 + across**2 <= (SIDE / 2) ** 2
disc = np.where(inside, 255, 0).astype(np.uint8)
Image.fromarray(np.dstack([noisy, disc])).save(HERE / "turned.png", optimize=True)
