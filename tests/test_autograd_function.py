"""autograd.Function: operations that users write."""

import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import Function, grad, gradcheck, gradgradcheck
from minigrad.autograd.function import once_differentiable

from .garbage import collector_off


def leaf(values, dtype=mg.float64):
    return mg.tensor(values, dtype=dtype, requires_grad=True)


def values(t):
    return t.detach().numpy().tolist()


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * 3 * x * x


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = mg.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return dy * y


class SumAndProduct(Function):
    """Several inputs and outputs, some of them no tensors; saves an output."""

    @staticmethod
    def forward(ctx, a, name, b, scale):
        assert name == "name"
        ctx.scale = scale
        product = a * b * scale
        ctx.save_for_backward(a, None, b, product)
        return a + b, "label", product

    @staticmethod
    def backward(ctx, dsum, dlabel, dproduct):
        _, nothing, b, product = ctx.saved_tensors
        assert nothing is None and dlabel is None
        # product / b instead of a * scale, so that the saved output takes part in second derivatives
        return dsum + dproduct * b * ctx.scale, None, dsum + dproduct * product / b, None


def function(forward, backward):
    return type("Custom", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def test_gradients_and_second_derivatives():
    x = leaf([0.5, -1.5])
    for f in (Cube, Exp):
        assert gradcheck(f.apply, x) and gradgradcheck(f.apply, x)
    assert gradcheck(lambda x: Exp.apply(Cube.apply(x) * 0.5), x)
    (g,) = grad(Cube.apply(x).sum(), x, create_graph=True)
    (h,) = grad(g.sum(), x, create_graph=True)
    (k,) = grad(h.sum(), x)
    assert values(h) == [3, -9] and values(k) == [6, 6]


def test_several_inputs_and_outputs():
    a, b = leaf([2.0, 3.0]), leaf([5.0, 7.0])
    s, label, p = SumAndProduct.apply(a, "name", b, 2.0)
    assert values(s) == [7, 10] and label == "label" and values(p) == [20, 42]
    assert s.grad_fn is p.grad_fn and s.grad_fn.name == "SumAndProductBackward0"
    assert len(s.grad_fn.saved_tensors) == 4 and s.grad_fn.saved_tensors[3].grad_fn is p.grad_fn
    assert s.output_nr == 0 and p.output_nr == 2

    def apply(a, b):
        s, _, p = SumAndProduct.apply(a, "name", b, 2.0)
        return s, p

    assert gradcheck(apply, (a, b)) and gradgradcheck(apply, (a, b))
    p = apply(a, b)[1]  # of the other output there is no gradient: zeros
    assert [values(g) for g in grad(p.sum(), [a, b])] == [[10, 14], [4, 6]]


def test_outputs_nobody_uses():
    got = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 2, x.sum() * 3

        @staticmethod
        def backward(ctx, d2, d3):
            got.append((d2, d3))
            return d2 * 2, None

    x = leaf([1.0, 2.0])
    Two.apply(x, True)[0].sum().backward()
    assert values(got[0][0]) == [1, 1] and values(got[0][1]) == 0
    Two.apply(x, False)[0].sum().backward()
    assert got[1][1] is None


def test_needs_input_grad_and_none():
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx, a, b):
            seen.append(ctx.needs_input_grad)
            assert not mg.is_grad_enabled()
            return a * b

        @staticmethod
        def backward(ctx, dy):
            seen.append(ctx.needs_input_grad)
            return (dy * 5 if ctx.needs_input_grad[0] else None), None

    a, b = leaf(2.0), mg.tensor(3.0, dtype=mg.float64)
    Product.apply(a, b).backward()
    assert a.grad.item() == 5 and seen == [(True, False)] * 2
    y = Product.apply(b, leaf(2.0))
    assert y.requires_grad
    y.backward()
    seen.clear()
    assert not Product.apply(b, b).requires_grad
    with mg.no_grad():
        assert not Product.apply(a, a).requires_grad
    assert seen == [(False, False), (True, True)]


def test_setup_context():
    class Scale(Function):
        @staticmethod
        def forward(x, factor):
            return x * factor

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.factor = inputs[1]
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, dy):
            assert ctx.saved_tensors[0].shape == dy.shape
            return dy * ctx.factor, None

    x = leaf([1.0, 2.0])
    assert gradcheck(lambda x: Scale.apply(x, 3.0), x)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda d: (d, d), RuntimeError, r"incorrect number of gradients \(expected 1, got 2\)"),
        (lambda d: (), RuntimeError, r"incorrect number of gradients \(expected 1, got 0\)"),
        (lambda d: d[:1], None, None),
        (lambda d: mg.ones(3), RuntimeError, r"invalid gradient at index 0 - got \[3\] but expected shape.*\[2\]"),
        (lambda d: mg.ones(2, 3), RuntimeError, r"got \[2, 3\] but expected"),
        (lambda d: mg.ones(2, dtype=mg.int64), RuntimeError, "expected dtype"),
        (lambda d: 3.0, TypeError, r"expected Variable or None \(got float\)"),
    ],
)
def test_wrong_gradients(result, error, message):
    f = function(lambda ctx, x: x * 1, lambda ctx, d: result(d))
    x = leaf([1.0, 2.0])
    y = f.apply(x).sum()
    if error is None:
        with pytest.raises(RuntimeError, match="invalid gradient"):
            y.backward()
    else:
        with pytest.raises(error, match=message):
            y.backward()
    assert x.grad is None
    (x * 2).sum().backward()


def test_gradient_for_an_argument_that_is_no_tensor():
    f = function(lambda ctx, x, k: x * k, lambda ctx, d: (d, d))
    with pytest.raises(RuntimeError, match="different from None at position 2"):
        f.apply(leaf(1.0), 2.0).backward()


def test_gradients_that_fit():
    x = leaf([1.0, 2.0])
    for result, expected in (
        (lambda d: (d, None, None), [1, 1]),  # more Nones than arguments
        (lambda d: [d], [1, 1]),
        (lambda d: d.float(), [1, 1]),  # another dtype
        (lambda d: mg.ones(3, 2, dtype=mg.float64), [3, 3]),  # summed
        (lambda d: None, None),
    ):
        x.grad = None
        function(lambda ctx, x: x * 1, lambda ctx, d, result=result: result(d)).apply(x).sum().backward()
        assert (x.grad if expected is None else values(x.grad)) == expected
        assert x.grad is None or x.grad.dtype is mg.float64


def test_saved_tensors_are_checked():
    x = leaf([1.0, 2.0])
    h = x * 1
    y = Cube.apply(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*CubeBackward0"):
        y.sum().backward()
    y = Cube.apply(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        _ = Cube.apply(x).grad_fn.saved_tensors, y.grad_fn, Exp.apply(x).sum().backward(), freed(x).saved_tensors
    with pytest.raises(TypeError, match="can only save variables, but argument 1 is of type int"):
        function(lambda ctx, x: ctx.save_for_backward(x, 3), None).apply(x)


def freed(x):
    y = Exp.apply(x)
    y.sum().backward()
    return y.grad_fn


def test_saved_tensors_outside_backward():
    x = leaf([1.0, 2.0])
    (saved,) = Cube.apply(x).grad_fn.saved_tensors
    assert saved is x
    y = Exp.apply(x)
    (saved,) = y.grad_fn.saved_tensors
    assert saved.grad_fn is y.grad_fn and saved.requires_grad


def test_backward_twice_with_nothing_saved():
    f = function(lambda ctx, x: x * 2, lambda ctx, d: d * 2)
    x = leaf(1.0)
    y = f.apply(x)
    y.backward()
    y.backward()
    assert x.grad.item() == 4


def test_mark_non_differentiable():
    class Sort(Function):
        @staticmethod
        def forward(ctx, x):
            order = mg.tensor(np.argsort(x.detach().numpy()))
            rank = order.double()
            ctx.mark_non_differentiable(order, rank)
            ctx.save_for_backward(order, rank)
            return x.detach()[order], order, rank

        @staticmethod
        def backward(ctx, dy, dorder, drank):
            order, _ = ctx.saved_tensors
            assert values(drank) == [0, 0, 0]
            g = mg.zeros_like(dy)
            g[order] = dy
            return g

    x = leaf([3.0, 1.0, 2.0])
    y, order, rank = Sort.apply(x)
    assert values(y) == [1, 2, 3] and y.requires_grad and not order.requires_grad and not rank.requires_grad
    (y * mg.tensor([10.0, 20.0, 30.0])).sum().backward()
    assert values(x.grad) == [30, 10, 20]


class Double(Function):
    """In place."""

    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, dy):
        return dy * 2


def test_mark_dirty():
    a = leaf([1.0, 2.0])
    x = a * 1
    y = Double.apply(x)
    assert y is x and values(x) == [2, 4]
    (x * x).sum().backward()
    assert values(a.grad) == [8, 16]

    base = a * 1  # through a view
    view = base[1:]
    Double.apply(view)
    a.grad = None
    (base * base).sum().backward()
    assert values(base) == [1, 4] and values(a.grad) == [2, 16]

    h = a * 1
    z = h * h  # saved before it is edited
    Double.apply(h)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        Double.apply(leaf([1.0]))
    forgetful = function(lambda ctx, x: (ctx.mark_dirty(x), x * 2)[1], None)
    with pytest.raises(RuntimeError, match="not returned as output"):
        forgetful.apply(a * 1)


def test_mark_dirty_saves_its_output():
    class ExpInPlace(Function):
        @staticmethod
        def forward(ctx, x):
            x.exp_()
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved_tensors[0]

    x = leaf([0.5, -1.0])
    assert gradcheck(lambda x: ExpInPlace.apply(x * 1), x) and gradgradcheck(lambda x: ExpInPlace.apply(x * 1), x)


@pytest.mark.parametrize("shown", ["the input", "a view", "a slice", "detached"])
def test_outputs_that_share_memory_with_an_input(shown):
    """A gradient reversal layer must not lose its backward, whatever happens in place."""
    forward = {
        "the input": lambda ctx, x: x,
        "a view": lambda ctx, x: x.view(x.shape),
        "a slice": lambda ctx, x: x[:],
        "detached": lambda ctx, x: x.detach(),
    }[shown]
    reverse = function(forward, lambda ctx, d: -d)
    a = leaf([1.0, 2.0])
    reverse.apply(a).sum().backward()
    assert values(a.grad) == [-1, -1]
    for edit in ("input", "output"):
        a.grad = None
        x = a * 1
        y = reverse.apply(x)
        (x if edit == "input" else y).mul_(3)
        (y + x * 10).sum().backward()
        assert values(a.grad) == ([-1 + 30] * 2 if edit == "input" else [-3 + 10] * 2)
    assert a.is_leaf


def test_outputs_that_existed_before():
    constant = mg.ones(2, dtype=mg.float64)
    parameter = leaf([5.0, 6.0])
    x = leaf([1.0, 2.0])
    f = function(lambda ctx, x: (parameter, parameter, constant[:]), lambda ctx, a, b, c: a + b * 10 + c * 100)
    p, q, c = f.apply(x)
    assert parameter.is_leaf and not constant.requires_grad and p is not q
    (p + q + c).sum().backward()
    assert values(x.grad) == [111, 111] and parameter.grad is None
    c.mul_(2)
    c.sum().backward()
    assert values(x.grad) == [311, 311]


def test_backward_inside_backward():
    class Nested(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with mg.enable_grad():
                y = (x**3).sum()
            y.backward()
            return dy * x.grad

    x = leaf([1.0, 2.0])
    h = x * 2
    (Nested.apply(h) * h).sum().backward()
    np.testing.assert_allclose(values(x.grad), [2 * 4 * 8.0, 2 * 4 * 64.0])


def test_errors_in_forward_and_backward():
    def fail(ctx, *args):
        raise ZeroDivisionError

    x = leaf(1.0)
    with pytest.raises(ZeroDivisionError):
        function(fail, None).apply(x)
    assert mg.is_grad_enabled()
    with pytest.raises(ZeroDivisionError):
        function(lambda ctx, x: x * 1, fail).apply(x).backward()
    assert mg.is_grad_enabled()

    class Empty(Function):
        pass

    with pytest.raises(NotImplementedError, match="forward"):
        Empty.apply(x)
    Empty.forward = staticmethod(lambda ctx, x: x * 1)
    with pytest.raises(NotImplementedError, match="backward"):
        Empty.apply(x).backward()
    with pytest.raises(RuntimeError, match="Legacy"):
        Empty()(x)


def test_once_differentiable():
    class ByNumPy(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return mg.tensor(np.sin(x.detach().numpy()))

        @staticmethod
        @once_differentiable
        def backward(ctx, dy):
            assert not mg.is_grad_enabled()
            return dy * mg.tensor(np.cos(ctx.saved_tensors[0].detach().numpy()))

    x = leaf([0.5, 1.0])
    assert gradcheck(ByNumPy.apply, x)
    (g,) = grad(ByNumPy.apply(x).sum(), x, create_graph=True)
    assert g.requires_grad
    with pytest.raises(RuntimeError, match="differentiate twice a function that was marked with @once_differentiable"):
        grad(g.sum(), x)


def test_no_reference_cycles():
    def step():
        x = leaf([0.5, 1.5])
        y = Exp.apply(Cube.apply(x))
        s, _, p = SumAndProduct.apply(y, "name", x, 2.0)
        (s + p).sum().backward()
        Exp.apply(x)  # never differentiated
        (g,) = grad(Exp.apply(x).sum(), x, create_graph=True)
        grad(g.sum(), x)

    step()
    with collector_off():
        for _ in range(100):
            step()
        assert gc.collect() == 0
