"""Run in a process of its own with TRITON_INTERPRET=1: the Triton kernel against the closed form in float64.

Prints "worst <loss> <features> <scale>", the largest relative errors; triton decides at import whether to interpret.
"""

import torch

from ctkernels.infonce_closed import closed_gradients
from ctkernels.infonce_triton import infonce_small
from ctkernels.pairing import Pairing

CASES = ((48, 1.0, torch.float32), (128, 2.6593, torch.float32), (130, 2.6593, torch.bfloat16))


def relative(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((ours.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-9))


def main() -> None:
    worst = [0.0, 0.0, 0.0]
    for batch in (1, 2, 3, 17, 32, 33, 64):
        for dim, scale, dtype in (
            (48, 1.0, torch.float32),
            (128, 2.6593, torch.float32),
            (130, 2.6593, torch.bfloat16),
        ):
            generator = torch.Generator().manual_seed(batch)
            shared = torch.randn(batch, dim, generator=generator)
            image = (2 * (shared + torch.randn(batch, dim, generator=generator))).to(dtype)
            text = (0.3 * (shared + torch.randn(batch, dim, generator=generator))).to(dtype)
            log_scale = torch.tensor(scale)
            # The interpreter's bfloat16 products are wrong, so values are bfloat16 and products float32.
            made = infonce_small(image, text, log_scale, is_upcast=True)
            wanted = closed_gradients(image.double(), text.double(), log_scale.double(), Pairing(), (0, batch))[:4]
            errors = [relative(ours, right) for ours, right in zip(made, wanted, strict=True)]
            worst = [max(a, b) for a, b in zip(worst, (errors[0], max(errors[1:3]), errors[3]), strict=True)]
    print("worst", *worst)


if __name__ == "__main__":
    main()
