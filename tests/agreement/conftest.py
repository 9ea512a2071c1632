"""All frameworks in one process; without one of them there is nothing to compare."""

import importlib.util
import os

if not all(map(importlib.util.find_spec, ("autograd", "jax", "torch", "upweight_autograd"))):
    collect_ignore_glob = ["*"]
else:
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    import jax

    jax.config.update("jax_enable_x64", True)
