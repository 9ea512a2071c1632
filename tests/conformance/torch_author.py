"""What the kit does not know of torch: its global settings."""

import torch

from upweight.testing import BackendConformance


class TorchAuthor(BackendConformance):
    backend = "torch"

    def settings(self):
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.get_rng_state().tolist(),
        )
