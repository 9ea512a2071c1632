"""What the kit does not know of JAX: its global settings."""

import jax

from upweight.testing import BackendConformance


class JaxAuthor(BackendConformance):
    backend = "jax"

    def settings(self):
        return dict(jax.config.values)
