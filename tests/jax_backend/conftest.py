"""JAX as the tests need it: double precision, and compiled in a hurry."""

import importlib.util
import os

if importlib.util.find_spec("jax") is None:
    collect_ignore_glob = ["*"]
else:
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    import jax

    jax.config.update("jax_enable_x64", True)
