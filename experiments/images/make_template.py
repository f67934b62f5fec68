"""Make badge.png, the demo's template: the mission badge out of astronaut.png, with noise.

It is brighter and noisier than the photo, so that no window equals it.
"""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
LEFT, TOP, WIDTH, HEIGHT = 132, 346, 80, 80

photo = np.asarray(Image.open(HERE / "astronaut.png"), dtype=np.float64)
badge = photo[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
noise = np.random.default_rng(0).normal(0, 12, badge.shape)
noisy = np.clip(np.rint(1.05 * badge + noise), 0, 255).astype(np.uint8)
Image.fromarray(noisy).save(HERE / "badge.png", optimize=True)
