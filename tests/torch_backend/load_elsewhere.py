"""Loads a saved model in a process of its own, and keeps the influences it gives.

python load_elsewhere.py model.zarr influences.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from torch_zoo import MLP

from upweight import load

if __name__ == "__main__":
    torch.set_num_threads(1)
    saved, written = sys.argv[1:]
    train, test = MLP.batch(20), MLP.batch(4, seed=1)
    influence = load(saved, MLP.model(), MLP.loss, data=[train])
    np.savez(
        written,
        up=influence.influences(*test, *train),
        perturbation=influence.influences(*test, *train, mode="perturbation"),
        own=influence.self_influences(*test),
    )
