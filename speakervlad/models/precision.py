"""Where half precision would cost accuracy."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor itself in float32 or float64; half types are widened to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
