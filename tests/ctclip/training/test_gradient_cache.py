"""The gradient cache gives the gradient of the whole batch, whatever the size of a forward pass."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ctclip.config import TrainConfig
from ctclip.data import TrainBatch
from ctclip.models.dual import build_dual_encoder
from ctclip.models.features import Features
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.objectives.clip import clip_loss
from ctclip.training.distributed import World
from ctclip.training.gradient_cache import backward_in_chunks
from ctclip.training.step import TrainingStep
from tests.ctclip.learnable import SHAPE, learnable_config

ALONE = World(0, 1, torch.device("cpu"))
WORDS = ("normal", "mass", "cyst", "stone", "large", "dark", "dense", "small")
TEXTS = [f"liver : {word} ." for word in WORDS]


class Towers(nn.Module):
    """Two linear towers and a scale, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(5, 4).double(), nn.Linear(3, 4).double()
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor) -> Features:
        return Features(self.image(x).tanh(), self.text(y).tanh(), self.scale)


def gradients(towers: Towers, num_chunks: int, loss_of=clip_loss) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    towers.zero_grad(set_to_none=True)
    chunks = [lambda a=a, b=b: towers(a, b) for a, b in zip(x.chunk(num_chunks), y.chunk(num_chunks), strict=True)]
    loss = backward_in_chunks(chunks, loss_of, shared=[towers.scale])
    return loss, {name: p.grad.clone() for name, p in towers.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 12])
def test_any_number_of_chunks_has_the_gradient_of_the_whole_batch(num_chunks):
    towers = Towers()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    wanted_loss = clip_loss(towers(x, y))
    wanted = torch.autograd.grad(wanted_loss, list(towers.parameters()))
    loss, found = gradients(towers, num_chunks)
    torch.testing.assert_close(loss, wanted_loss.detach(), rtol=1e-12, atol=0)
    for (name, _), gradient in zip(towers.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-14)


def test_the_loss_is_computed_once_and_what_it_does_not_read_gets_a_gradient_of_zero():
    calls = []

    def of_images(features: Features) -> Tensor:
        calls.append(len(features.image))
        return features.image.square().sum()

    _, found = gradients(Towers(), 3, of_images)
    assert calls == [12]
    assert found["image.weight"].abs().max() > 0
    assert float(found["scale"]) == 0
    assert found["text.weight"].abs().max() == 0


def test_every_backward_pass_but_the_last_is_inside_no_sync():
    towers, seen, inside = Towers(), [], []

    @contextmanager
    def no_sync():
        inside.append(True)
        yield
        inside.pop()

    towers.image.weight.register_post_accumulate_grad_hook(lambda _: seen.append(bool(inside)))
    chunks = [lambda: towers(torch.ones(2, 5).double(), torch.ones(2, 3).double())] * 3
    backward_in_chunks(chunks, clip_loss, shared=[towers.scale], no_sync=no_sync)
    assert seen == [True, True, False]


def whole_step(tmp_path, config: TrainConfig, *, seed_of_data: int = 0) -> tuple[TrainingStep, dict[str, Tensor]]:
    """One step of the whole model; the gradients before clipping changed them."""
    folder = tmp_path / "text"
    if not folder.exists():
        write_text_folder(folder, config.model.text, TEXTS)
    model = build_dual_encoder(config.model, folder, num_channels=1, seed=0, is_pretrained=True)
    step = TrainingStep(model.train(), config, ALONE)
    volume = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(seed_of_data))
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    batch = TrainBatch(volume, TextTokenizer(folder, max_length=48)(TEXTS), "report", tuple(TEXTS))
    kept: dict[str, Tensor] = {}
    update = step.optimizer.step

    def keep_and_update() -> None:
        kept.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        update()

    step.optimizer.step = keep_and_update  # pyright: ignore[reportAttributeAccessIssue]
    step.run(0, batch)
    return step, kept


@pytest.mark.parametrize(("micro_batch", "bn_group"), [(4, 4), (2, 2), (4, 2)])
def test_the_whole_model_at_equal_groups_has_equal_gradients_statistics_and_weights(tmp_path, micro_batch, bn_group):
    config = learnable_config(tmp_path, bn_group=bn_group)
    text = replace(config.model.text, dropout=0.3)  # dropout must be replayed
    config = replace(config, model=replace(config.model, text=text))
    plain, wanted = whole_step(tmp_path, config)
    cached, found = whole_step(tmp_path, replace(config, micro_batch=micro_batch))
    assert sorted(found) == sorted(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    statistics = dict(plain.model.named_buffers())
    for name, value in cached.model.named_buffers():
        torch.testing.assert_close(value, statistics[name], rtol=1e-6, atol=1e-7)


def test_other_groups_train_another_network(tmp_path):
    config = learnable_config(tmp_path)
    _, whole = whole_step(tmp_path, config)
    _, halves = whole_step(tmp_path, replace(config, bn_group=4))
    name = "encode_image.i3_resnet.conv1.weight"
    assert not torch.allclose(whole[name], halves[name], rtol=1e-3)


def test_running_statistics_move_once_per_step_toward_the_mean_of_the_groups(tmp_path):
    config = learnable_config(tmp_path, bn_group=2, micro_batch=2)
    step, _ = whole_step(tmp_path, config)
    norm = step.model.encode_image.i3_resnet.bn1
    fresh = build_dual_encoder(config.model, tmp_path / "text", num_channels=1, seed=0, is_pretrained=False)
    volume = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    stem = fresh.encode_image.i3_resnet._stem(volume)
    groups = stem.detach().unflatten(0, (4, 2)).transpose(1, 2).flatten(2)  # (4, channels, values)
    torch.testing.assert_close(norm.running_mean, 0.1 * groups.mean(2).mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * groups.var(2).mean(0), rtol=1e-4, atol=1e-6)
    assert int(norm.num_batches_tracked) == 1


def test_one_group_has_the_bits_of_plain_batch_norm(tmp_path):
    config = learnable_config(tmp_path)
    step, _ = whole_step(tmp_path, config)
    plain = build_dual_encoder(config.model, tmp_path / "text", num_channels=1, seed=0, is_pretrained=True).train()
    volume = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    plain.encode_image(volume.contiguous(memory_format=torch.channels_last_3d))
    ours, theirs = dict(step.model.named_buffers()), dict(plain.named_buffers())
    names = [name for name in ours if "running" in name or "tracked" in name]
    assert names
    assert [name for name in names if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("micro_batch", ["off", 2])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, micro_batch):
    config = learnable_config(tmp_path, micro_batch=micro_batch, ema_decay=0.9)
    step, _ = whole_step(tmp_path, config)
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    moments = [value.clone() for state in step.optimizer.state.values() for value in state.values()]
    assert step.average is not None
    average = {name: value.clone() for name, value in step.average.state_dict().items()}
    volume = torch.rand(8, 1, *SHAPE)
    volume[3, 0, 0, 0, 0] = torch.nan
    batch = TrainBatch(volume, TextTokenizer(tmp_path / "text", max_length=48)(TEXTS), "report", tuple(TEXTS))
    loss, _ = step.run(1, batch)
    assert not loss.isfinite()
    after = step.model.state_dict()
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    now = [value for state in step.optimizer.state.values() for value in state.values()]
    assert all(torch.equal(old, new) for old, new in zip(moments, now, strict=True))
    assert all(value.isfinite().all() for value in step.average.state_dict().values())
    assert sorted(average) == sorted(step.average.state_dict())
