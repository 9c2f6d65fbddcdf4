"""gradcheck, gradgradcheck, jacobian, hessian: they accept what is right and say what is wrong."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import Function, GradcheckError, gradcheck, gradgradcheck
from minigrad.autograd.functional import hessian, jacobian


def leaf(values, dtype=mg.float64):
    return mg.tensor(values, dtype=dtype, requires_grad=True)


class WrongSquare(Function):
    """Its first derivative is off by a factor."""

    factor = 2.5

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0] * WrongSquare.factor


class WrongTwice(Function):
    """Its first derivative is right, its second is lost."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0].detach() * 2


@pytest.mark.parametrize("fast", [False, True])
def test_right_gradients_pass(fast):
    a, b, c = leaf([[0.5, -1.0, 2.0], [1.5, 0.3, -0.2]]), leaf([[1.0], [2.0]]), leaf(0.7)
    k = mg.tensor([1.0, 2.0, 3.0], dtype=mg.float64)

    def f(a, b, c, k):
        return (a * b).tanh() @ k + c, mg.tensor(3), (a.sum(0) * k).exp()

    assert gradcheck(f, (a, b, c, k), fast_mode=fast)
    assert gradgradcheck(f, (a, b, c, k), fast_mode=fast)
    assert gradgradcheck(f, (a, b, c, k), fast_mode=fast, gen_non_contig_grad_outputs=True)
    assert a.grad is None
    np.testing.assert_array_equal(a.detach().numpy(), [[0.5, -1.0, 2.0], [1.5, 0.3, -0.2]])  # perturbed and restored


def test_shapes():
    for shape in ((), (0,), (1,), (2, 0, 3), (2, 1, 3)):
        x = mg.full(shape, 0.3, dtype=mg.float64, requires_grad=True)
        for fast in (False, True):
            assert gradcheck(lambda x: x.exp(), x, fast_mode=fast)
            assert gradgradcheck(lambda x: x.exp(), x, fast_mode=fast)
    base = mg.tensor(np.arange(12.0).reshape(3, 4) / 7)
    strided = base.t()[::2].requires_grad_()
    assert not strided.is_contiguous() and gradcheck(lambda x: x.sin() * x, strided)


@pytest.mark.parametrize("fast", [False, True])
def test_a_wrong_gradient_fails(fast):
    x = leaf([1.0, 3.0])
    with pytest.raises(GradcheckError) as failure:
        gradcheck(WrongSquare.apply, x, fast_mode=fast)
    message = str(failure.value)
    assert "Jacobian mismatch for output 0 with respect to input 0" in message
    assert "numerical:[[2." in message and "analytical:[[2.5 0. ]\n [0.  7.5]]" in message
    assert "worst at [1, 1]: numerical 6" in message and "2 of 4 differ" in message
    assert gradcheck(WrongSquare.apply, x, fast_mode=fast, raise_exception=False) is False
    assert gradcheck(WrongSquare.apply, x, fast_mode=fast, rtol=0.5)


def test_a_wrong_second_derivative_fails():
    x = leaf([1.0, 3.0])
    assert gradcheck(WrongTwice.apply, x)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradgradcheck(WrongTwice.apply, x)
    assert not gradgradcheck(WrongTwice.apply, x, raise_exception=False)


def test_a_gradient_that_is_missing_or_differs_from_run_to_run():
    x = leaf([1.0, 3.0])
    with pytest.raises(
        GradcheckError, match="expected to be zero: output 0 does not require grad but depends on input 0"
    ):
        gradcheck(lambda x: x.detach() * 2, x)
    assert gradcheck(lambda x: mg.ones(2, dtype=mg.float64), x)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lambda x: x * x.detach(), x)

    class Drifting(Function):
        calls = 0

        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            Drifting.calls += 1
            return dy * (2 + 1e-9 * Drifting.calls)

    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(Drifting.apply, x)
    assert gradcheck(Drifting.apply, x, nondet_tol=1e-6)


def test_outputs_that_depend_on_each_other_in_backward():
    class Muddled(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, da, db):
            both = bool((da != 0).any() and (db != 0).any())
            return da * 2 + db * 3 * (1 if not both else 2)

    with pytest.raises(GradcheckError, match="all outputs at once"):
        gradcheck(Muddled.apply, leaf([1.0]))


def test_float32_inputs():
    x = leaf([0.1, 3.0], mg.float32)
    with (
        pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double precision"),
        pytest.raises(GradcheckError, match="Jacobian mismatch"),
    ):
        gradcheck(lambda x: x.exp(), x)


def test_inputs_that_cannot_be_checked():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x, mg.ones(2))
    expanded = mg.ones(1, dtype=mg.float64).expand(3).requires_grad_()
    with pytest.raises(RuntimeError, match="stride 0"):
        gradcheck(lambda x: x * x, expanded)
    frozen = np.ones(2)
    frozen.flags.writeable = False
    x = mg.from_numpy(frozen).requires_grad_()
    with pytest.raises(RuntimeError, match="read-only"):
        gradcheck(lambda x: x * x, x)
    for option in ("check_forward_ad", "check_batched_grad", "check_batched_forward_grad"):
        with pytest.raises(NotImplementedError):
            gradcheck(lambda x: x, leaf([1.0]), **{option: True})


def test_jacobian():
    x, y = mg.tensor([1.0, 2.0]), mg.tensor([[3.0], [4.0]])
    j = jacobian(lambda x: x * x, x)
    assert j.tolist() == [[2, 0], [0, 4]] and not j.requires_grad
    jx, jy = jacobian(lambda x, y: (x * y).sum(0), (x, y))
    assert jx.tolist() == [[7, 0], [0, 7]] and jy.tolist() == [[[1], [1]], [[2], [2]]]
    (a, b) = jacobian(lambda x: (x.sum(), mg.ones(3)), x)
    assert a.tolist() == [1, 1] and b.tolist() == [[0, 0]] * 3
    with pytest.raises(RuntimeError, match="independent"):
        jacobian(lambda x: mg.ones(3), x, strict=True)
    with pytest.raises(NotImplementedError):
        jacobian(lambda x: x, x, strategy="forward-mode")
    z = leaf([1.0, 2.0])
    assert mg.autograd.gradcheck(lambda z: jacobian(lambda t: t.exp() * t, z, create_graph=True), z)


def test_hessian():
    x, y = mg.tensor([1.0, 2.0]), mg.tensor(3.0)
    assert hessian(lambda x: (x**3).sum(), x).tolist() == [[6, 0], [0, 12]]
    (xx, xy), (yx, yy) = hessian(lambda x, y: (x * x).sum() * y * y, (x, y))
    assert xx.tolist() == [[18, 0], [0, 18]] and xy.tolist() == yx.tolist() == [12, 24] and yy.item() == 10
    with pytest.raises(RuntimeError, match="one element"):
        hessian(lambda x: x, x)
