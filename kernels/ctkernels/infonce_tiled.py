"""`infonce` for any number of pairs: two launches, logits never stored (infonce_sums.py, infonce_gradients.py).

No atomics: the same bits every time. Formulas as in infonce_closed.py.

This file checks nothing. Its kernels have been compiled for sm_90 and run in Triton's interpreter, not on a GPU.

Axes: N pairs, E joint dimension, R rows whose features want a gradient, S strips.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportCallIssue=false, reportArgumentType=false

import torch
import triton
from torch import Tensor

from ctkernels.infonce_closed import Gradients
from ctkernels.infonce_gradients import gradients_kernel
from ctkernels.infonce_sums import sums_kernel
from ctkernels.infonce_triton import columns_of, constants_of, empty_gradients, weights_of
from ctkernels.pairing import Pairing

# Products in float32 -> rows of a tile, columns of a tile, columns of the gradient that one program owns, columns of
# the features loaded at once for the dot products. As in infonce_triton.py, the largest that compile for sm_90 without
# spilling registers, whatever the options, by triton 3.6 and 3.9.
LAUNCH = {False: (64, 32, 128, 32), True: (64, 16, 64, 32)}
NUM_WARPS = 8
PROGRAMS = 264  # strips are made until the first launch has about this many programs: two for each of 132 processors
SUMS = 8  # kept per row: of negatives largest, sum, moment; of positives largest, sum, moment, total, count
CELL_SUMS = 3  # kept per row of the images: loss of the cells, their gradient by log scale, by bias


def num_strips(num_pairs: int, rows: int, columns: int) -> int:
    """Strips of the first launch: a power of two, about PROGRAMS programs, at least one tile each, at most 8."""
    wanted = min(8, triton.cdiv(num_pairs, columns), max(1, PROGRAMS // (2 * triton.cdiv(num_pairs, rows))))
    return 1 << (wanted.bit_length() - 1)


def infonce_tiled(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    pairing: Pairing,
    rows: tuple[int, int],
    *,
    is_upcast: bool | None = None,
) -> Gradients:
    """The launches of `sums_kernel` and `gradients_kernel`.

    Args:
        image: (N, E) contiguous, float32, bfloat16 or float16.
        text: As image.
        logit_scale: Scalar of any floating type.
        pairing: Options, checked.
        rows: Start and stop of the rows whose features want a gradient.
        is_upcast: Multiply in float32; when not given, all but bfloat16 features are.
    """
    num_pairs, dim = image.shape
    upcast = not image.dtype == text.dtype == torch.bfloat16 if is_upcast is None else is_upcast
    tile_rows, tile_columns, width, chunk = LAUNCH[upcast]
    strips, num_tiles = num_strips(num_pairs, tile_rows, tile_columns), triton.cdiv(num_pairs, tile_columns)
    made = empty_gradients(image, rows)
    sums = torch.empty(2, strips, SUMS, num_pairs, device=image.device, dtype=torch.float32)
    num_cells = strips * CELL_SUMS * num_pairs if pairing.sigmoid is not None else 1
    cell_sums = torch.empty(num_cells, device=image.device, dtype=torch.float32)
    weight, sigmoid_weight = weights_of(pairing)
    shape = {"E": dim, "BM": tile_rows, "BN": tile_columns, "CHUNK": chunk, "IS_UPCAST": upcast}
    shape |= {"SUMS": SUMS, "CELL_SUMS": CELL_SUMS}
    constants = constants_of(pairing)
    kinds = {name: constants[name] for name in ("REDUCTION", "IGNORES_ABNORMAL")}
    sums_kernel[(triton.cdiv(num_pairs, tile_rows), strips, 2)](
        image, text, logit_scale, sums, cell_sums, *columns_of(pairing), num_pairs, num_tiles, sigmoid_weight,
        **shape, **kinds, num_warps=NUM_WARPS,
    )  # fmt: skip
    width = min(width, max(16, triton.next_power_of_2(dim)))
    gradients_kernel[(triton.cdiv(rows[1] - rows[0], tile_rows) + 1, triton.cdiv(dim, width), 2)](
        image, text, logit_scale, sums, cell_sums, *made, *columns_of(pairing), num_pairs, num_tiles, *rows,
        weight, sigmoid_weight, **shape, BE=width, STRIPS=strips, **constants, num_warps=NUM_WARPS,
    )  # fmt: skip
    return made
