"""The closed form against autograd through the ten-line reference."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ctkernels import infonce
from ctkernels.infonce_reference import infonce_reference
from tests.ctkernels.contrast import GRADIENT_TOLERANCE, LOSS_TOLERANCE, SIZES, gradients, pairs, worst


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.6593])
@pytest.mark.parametrize("batch", SIZES)
def test_loss_and_gradients_equal_autograd_of_the_reference(batch, scale, dtype):
    inputs = pairs(batch, scale=scale, dtype=dtype)
    loss, grads = gradients(infonce, inputs)
    wanted_loss, wanted = gradients(infonce_reference, [x.detach().double().requires_grad_() for x in inputs])
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert [grad.dtype for grad in grads] == [tensor.dtype for tensor in inputs]
    assert torch.allclose(loss.double(), wanted_loss, rtol=LOSS_TOLERANCE[dtype], atol=1e-15)
    if batch == 1:
        assert all(float(grad.abs().max()) == 0 for grad in grads)
        return
    assert worst(grads[0], wanted[0]) < GRADIENT_TOLERANCE[dtype]
    assert worst(grads[1], wanted[1]) < GRADIENT_TOLERANCE[dtype]
    assert worst(grads[2], wanted[2]) < 10 * LOSS_TOLERANCE[dtype]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_gradcheck_of_all_three_inputs(batch):
    assert torch.autograd.gradcheck(infonce, pairs(batch, dim=4), eps=1e-6, atol=1e-8)


def test_a_loss_near_zero_keeps_its_digits_where_cross_entropy_rounds_to_zero():
    features = torch.eye(8)
    scale = torch.tensor(100.0).log()
    exact = 7 * torch.exp(torch.tensor(-100.0, dtype=torch.float64))  # log1p(7 e^-100)
    assert float(infonce_reference(features, features, scale)) == 0
    assert float(infonce(features, features, scale)) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 4.6052])
def test_identical_rows_and_large_scales_stay_finite(scale):
    inputs = [torch.ones(6, 4, requires_grad=True), torch.ones(6, 4, requires_grad=True)]
    inputs.append(torch.tensor(scale, requires_grad=True))
    loss, grads = gradients(infonce, inputs)
    assert float(loss) == pytest.approx(float(torch.tensor(6.0).log()), rel=1e-6)
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_an_all_zero_feature_behaves_as_in_normalize():
    image, text, scale = pairs(3)
    with torch.no_grad():
        image[1] = 0
    loss, grads = gradients(infonce, [image, text, scale])
    wanted_loss, wanted = gradients(infonce_reference, [image, text, scale])
    assert float(loss) == pytest.approx(float(wanted_loss), rel=1e-12)
    for ours, reference in zip(grads, wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


def test_autocast_changes_nothing():
    inputs = pairs(17, dtype=torch.float32)
    plain_loss, plain = gradients(infonce, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, grads = gradients(infonce, inputs)
    assert torch.equal(loss, plain_loss)
    assert all(torch.equal(a, b) for a, b in zip(grads, plain, strict=True))


def test_without_gradients_the_loss_is_the_same_number():
    inputs = pairs(17)
    with torch.no_grad():
        quiet = infonce(*inputs)
    assert not quiet.requires_grad
    assert torch.equal(quiet, infonce(*inputs).detach())


def test_only_the_gradients_asked_for_are_given():
    image, text, scale = (tensor.detach() for tensor in pairs(5))
    scale.requires_grad_()
    infonce(image, text, scale).backward()
    assert scale.grad is not None
    assert image.grad is None
    assert text.grad is None


def test_a_gradient_of_the_gradient_is_refused_not_wrong():
    inputs = pairs(4)
    (grad,) = torch.autograd.grad(infonce(*inputs), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


def test_swapping_the_two_sides_swaps_their_gradients():
    image, text, scale = pairs(17)
    loss, (d_image, d_text, d_scale) = gradients(infonce, [image, text, scale])
    swapped, (e_text, e_image, e_scale) = gradients(infonce, [text, image, scale])
    torch.testing.assert_close(swapped, loss)
    torch.testing.assert_close(e_image, d_image)
    torch.testing.assert_close(e_text, d_text)
    torch.testing.assert_close(e_scale, d_scale)


def test_nothing_waits_for_the_device():
    with FakeTensorMode() as fake:
        inputs = [fake.from_tensor(tensor) for tensor in pairs(17, dtype=torch.float32)]
        loss, grads = gradients(infonce, inputs)  # reading a value of a fake tensor raises
    assert loss.shape == ()
    assert [grad.shape for grad in grads] == [tensor.shape for tensor in inputs]


# torch.compile itself instantiates the autograd.Function that it traces (torch 2.13, dynamo).
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_to_one_graph_forward_and_backward():
    def step(image, text, scale):
        return infonce(image, text, scale) * 2

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    inputs = pairs(17, dtype=torch.float32)
    loss, grads = gradients(compiled, inputs)
    wanted_loss, wanted = gradients(step, inputs)
    torch.testing.assert_close(loss, wanted_loss)
    for ours, eager in zip(grads, wanted, strict=True):
        torch.testing.assert_close(ours, eager)


@pytest.mark.parametrize(
    ("image", "text", "scale"),
    [
        (torch.ones(2, 3), torch.ones(3, 3), torch.tensor(1.0)),
        (torch.ones(2, 3), torch.ones(2, 4), torch.tensor(1.0)),
        (torch.ones(0, 3), torch.ones(0, 3), torch.tensor(1.0)),
        (torch.ones(2, 3, 1), torch.ones(2, 3, 1), torch.tensor(1.0)),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(2)),
        (torch.ones(2, 3, dtype=torch.int32), torch.ones(2, 3), torch.tensor(1.0)),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor(1.0, device="meta")),
    ],
)
def test_shapes_types_and_devices_that_do_not_fit_are_refused(image, text, scale):
    with pytest.raises(ValueError, match="infonce needs"):
        infonce(image, text, scale)
