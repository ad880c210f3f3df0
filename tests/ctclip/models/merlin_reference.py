"""Weights, volumes and texts that both this suite and PyPI's `merlin-vlm` can make, and the command that recorded
what `merlin-vlm` says of them into data/.

The weights are a function of their names alone (`numbers`), so that no checkpoint is kept here. Recording needs an
environment of its own, since merlin-vlm brings torchvision, peft and nltk:

    python -m venv merlin && merlin/bin/pip install merlin-vlm==0.0.7 torch torchvision transformers xxhash
    merlin/bin/python -m tests.ctclip.models.merlin_reference
    merlin/bin/python -m tests.ctclip.models.merlin_reference --full merlin.pt   # the published size, 1.1 GB

It was recorded with merlin-vlm 0.0.7, torch 2.13.0 (CPU), torchvision 0.28.0 and transformers 5.23.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"
RECORD, KEYS = DATA / "merlin_outputs.npz", DATA / "merlin_keys.json.gz"

REPORTS = (
    "Liver: Normal. Gallbladder: S/P cholecystectomy (2019).",
    "Spleen: enlarged, 15.2 cm; no focal lesion -- unchanged.",
    "KIDNEYS: 3-mm non-obstructing stone in the left kidney.",
)
# The smallest Longformer that fits Merlin's Linear(768, 512); a window that cuts into these texts.
LONGFORMER: dict[str, Any] = {
    "vocab_size": 90, "num_hidden_layers": 2, "intermediate_size": 64, "attention_window": 8,
    "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1,
}  # fmt: skip
PUBLISHED = {
    "vocab_size": 50265, "num_hidden_layers": 12, "intermediate_size": 3072, "attention_window": 512,
    "max_position_embeddings": 4098,
}  # fmt: skip
SHAPE_ZYX = (24, 64, 40)


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [0, 1) that depend on the name alone."""
    generator = np.random.Generator(np.random.Philox(xxhash.xxh3_64_intdigest(name.encode())))
    return generator.random(shape, np.float32)


def fill_by_name(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict of the same names and shapes, its values from `numbers`, of a size that keeps signals alive."""
    return {name: _value(name, tensor) for name, tensor in state.items()}


def _value(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor, device="cpu")
    uniform = torch.from_numpy(numbers(name, tuple(tensor.shape)))
    if name.endswith(("running_var", "logit_scale")):
        return 0.5 + uniform
    if tensor.ndim > 1:
        fan_in = tensor[0].numel() if "embeddings." not in name else 12
        return (uniform - 0.5) * (24 / fan_in) ** 0.5  # variance 2 / fan_in
    is_scale = name.endswith("weight") and ("bn" in name or "LayerNorm" in name or "downsample.1" in name)
    return (0.3 + 0.4 * uniform) if is_scale else 0.2 * (uniform - 0.5)


def volume_xyz(shape_zyx: tuple[int, int, int] = SHAPE_ZYX) -> Tensor:
    """(1, 1, X, Y, Z) in [0, 1], as merlin-vlm takes it. No two axes are alike."""
    depth, height, width = shape_zyx
    return torch.from_numpy(numbers("volume", (1, 1, width, height, depth)))


def token_ids(texts: list[list[str]]) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, N) of words, by a hash; 0 starts, 2 ends, 1 pads."""
    rows = [[0, *(3 + xxhash.xxh3_64_intdigest(word.encode()) % 87 for word in words), 2] for words in texts]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    return ids, (ids != 1).long()


class WordTokenizer:
    """Stands where merlin-vlm asks Hugging Face for a tokenizer; keeps the texts it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self, texts: list[str], **_: Any) -> dict[str, Tensor]:
        self.given = list(texts)
        ids, mask = token_ids([text.split() for text in texts])
        return {"input_ids": ids, "attention_mask": mask}


def merlin_model(*, is_full: bool) -> tuple[nn.Module, WordTokenizer]:
    """merlin-vlm's own MerlinArchitecture, without its downloads.

    Args:
        is_full: ResNet-152 and Clinical-Longformer's size; else one bottleneck per stage and two layers of text.
    """
    library = torch.library.Library("torchvision", "DEF")  # torchvision's CUDA build beside torch for the CPU
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # pyright: ignore[reportMissingImports]
    from merlin.models import build  # pyright: ignore[reportMissingImports]
    from transformers import LongformerConfig, LongformerModel

    sizes: dict[str, Any] = LONGFORMER | (PUBLISHED if is_full else {})
    tokenizer = WordTokenizer()
    resnet2d = torchvision.models.resnet.ResNet(
        torchvision.models.resnet.Bottleneck, [3, 8, 36, 3] if is_full else [1, 1, 1, 1]
    )

    class Local:
        @staticmethod
        def from_pretrained(name: str) -> LongformerModel:
            return LongformerModel(LongformerConfig(**sizes))

    class LocalTokenizer:
        @staticmethod
        def from_pretrained(name: str) -> WordTokenizer:
            return tokenizer

    build.torchvision.models.resnet152 = lambda pretrained: resnet2d
    build.AutoModel, build.AutoTokenizer = Local, LocalTokenizer
    return build.MerlinArchitecture().eval(), tokenizer


def main() -> None:
    """Record, or write a checkpoint of the published size filled by name together with what merlin-vlm says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", type=Path, help="write a full-size state_dict here, and outputs beside it as .npz")
    args = parser.parse_args()
    model, tokenizer = merlin_model(is_full=args.full is not None)
    model.load_state_dict(fill_by_name(model.state_dict()))
    with torch.no_grad():
        image, phenotype, text = model(volume_xyz(), list(REPORTS))
        tower: Any = model.get_submodule("encode_image.i3_resnet")
        tower.ImageEmbedding = True
        pooled = tower(volume_xyz())
    outputs = {"image": image, "phenotype": phenotype, "text": text, "pooled": pooled.reshape(1, -1)}
    target = RECORD if args.full is None else args.full.with_suffix(".npz")
    np.savez_compressed(target, cleaned=np.array(tokenizer.given), **{key: x.numpy() for key, x in outputs.items()})
    if args.full is not None:
        torch.save(model.state_dict(), args.full)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        KEYS.write_bytes(gzip.compress(json.dumps(shapes).encode(), mtime=0))
    said = ", ".join(f"{name} {tuple(x.shape)}" for name, x in outputs.items())
    print(f"{len(model.state_dict())} tensors; {target}: {said}")


if __name__ == "__main__":
    main()
