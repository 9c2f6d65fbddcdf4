"""Views, in-place operations, the backward walk and mixtures of devices."""

import numpy as np
import pytest

import minigrad as mg

from .both import agree, needs_gpu, same, values

pytestmark = needs_gpu

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"


def edit(function):
    """A program that edits a copy of its first leaf."""

    def program(m, x, *others):
        y = x * 1
        found = function(y, *others)
        return y if found is None else found

    return program


def through_view(y, z):
    y[1].mul_(2)
    y.t()[0].add_(z[:, 0].sum())
    y.view(-1)[3:7].copy_(z.view(-1)[:4])


def several(y, z):
    a, b = y.split([1, 2])
    return (a * 3).sum() + (b * z[1:]).sum(), a, b.t()


PROGRAMS = {
    "chain": lambda m, x, y: ((x * y).tanh() + x / 3).sum(),
    "mean": lambda m, x, y: (x - y).square().mean(),
    "used twice": lambda m, x, y: (x * x + x * y + x).sigmoid(),
    "broadcast": lambda m, x, y: x * y[0] + y[:, :1],
    "views": lambda m, x, y: x.t().reshape(2, 6)[:, ::2] * y.view(-1)[:6].reshape(2, 3),
    "numbers": lambda m, x, y: 2 - x * 3 + y / 4 + x**2 + 2**y,
    "numpy number": lambda m, x, y: x * np.float32(2.5) + np.float64(1),
    "0-d": lambda m, x, y: x * y.sum() + y.mean(),
    "0-d of the CPU": lambda m, x, y: x * mg.tensor(1.5) - mg.tensor(2) / y,
    "where": lambda m, x, y: m.where(x > 0, x, 0.5) + m.where(y > 0, 1.0, y),
    "clamp": lambda m, x, y: x.clamp(-0.5, 0.5) + y.clamp(min=x),
    "add_": edit(lambda y, z: y.add_(z, alpha=2)),
    "mul_": edit(lambda y, z: y.mul_(z).sub_(1).div_(2)),
    "iadd": edit(lambda y, z: y.__iadd__(z[0])),
    "number": edit(lambda y, z: y.add_(3).mul_(0.5)),
    "0-d CPU in place": edit(lambda y, z: y.mul_(mg.tensor(2.0))),
    "relu_": edit(lambda y, z: y.relu_()),
    "fill_": edit(lambda y, z: (y.narrow(0, 0, 1).fill_(7) * 2 + y).sum() + z.sum()),
    "zero_": edit(lambda y, z: y.zero_() + z),
    "copy_": edit(lambda y, z: y.copy_(z * 2)),
    "through a view": edit(through_view),
    "setitem": edit(lambda y, z: y.__setitem__((slice(None), 1), z[:, 0] * 3)),
    "split": edit(several),
    "strided in place": edit(lambda y, z: y.t().mul_(z.t())),
    "clone and detach": lambda m, x, y: x.clone() * y.detach() + x.detach() * y,
    "sum of many": lambda m, x, y: sum([x * i for i in range(5)]) + y,
    "linear": lambda m, x, y: m.nn.functional.linear(x, y, y[:, 0]),
    "linear without grad": lambda m, x, y: m.nn.functional.linear(x.detach(), y.detach(), y[:, 0].detach(), relu=True),
    "mlp": lambda m, x, y: m.nn.functional.linear(m.nn.functional.linear(x, y).relu(), y.t()).tanh().mean(),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_programs(name, dtype):
    agree(PROGRAMS[name], X.astype(dtype), Y.astype(dtype), what=name, twice=True)


def leaf():
    return mg.tensor(X, device="cuda", requires_grad=True)


def test_gradients_accumulate_where_the_leaf_is():
    x, z = leaf(), mg.tensor(X, requires_grad=True)
    for t in (x, z):
        (t * 2).sum().backward()
        (t.t() * 3).sum().backward()
        t.sum().backward(create_graph=True)
    same(x.grad, z.grad)
    x.grad = None
    (x * x).sum().backward(retain_graph=True)
    assert x.grad.is_cuda


def test_retained_and_hooked():
    seen = []
    x = leaf()
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    x.register_hook(lambda g: seen.append(g))
    y.sum().backward()
    assert y.grad.is_cuda and seen[0].is_cuda
    values(x.grad, mg.full((3, 4), 6.0))
    y = x * 2
    y.register_hook(lambda g: g.cpu())
    with pytest.raises(RuntimeError, match=r"has changed the device of value \(was cuda:0 got cpu\)"):
        y.sum().backward()


def test_gradients_of_another_device_are_refused():
    x, here = leaf(), mg.tensor(X, requires_grad=True)
    with pytest.raises(RuntimeError, match="located on a different device"):
        x.grad = mg.ones(3, 4)
    with pytest.raises(RuntimeError, match="cpu.*cuda:0"):
        (x * 2).backward(mg.ones(3, 4))

    class Wrong(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g.cpu()

    with pytest.raises(RuntimeError, match="expected device cuda:0 but got cpu"):
        Wrong.apply(x).sum().backward()
    assert here.grad is None


def test_moves_are_recorded():
    here = mg.tensor(X, requires_grad=True)
    there = here.cuda()
    assert there.grad_fn.name == "ToCopyBackward0" and not there.is_leaf
    (there * 2).sum().backward()
    assert not here.grad.is_cuda
    values(here.grad, mg.full((3, 4), 2.0))
    x = leaf()
    (x.cpu() * 3).cuda().sum().backward()
    assert x.grad.is_cuda
    values(x.grad, mg.full((3, 4), 3.0))
    y = mg.zeros(3, 4, device="cuda") * 1
    y.copy_(here)
    here.grad = None
    (y * 5).sum().backward()
    assert not here.grad.is_cuda
    values(here.grad, mg.full((3, 4), 5.0))


def test_the_gradient_of_a_number_on_the_cpu_stays_there():
    scale, x = mg.tensor(2.0, requires_grad=True), leaf()
    (x * scale + scale / x - mg.where(x > 0, x, scale)).sum().backward()
    assert not scale.grad.is_cuda and scale.grad.shape == () and x.grad.is_cuda


@pytest.mark.parametrize(
    "program",
    [
        lambda x, y: x + y, lambda x, y: y + x, lambda x, y: x.add_(y), lambda x, y: y.add_(x), lambda x, y: x == y,
        lambda x, y: x @ y.t(), lambda x, y: y.t() @ x, lambda x, y: mg.cat([x, y]), lambda x, y: mg.stack([y, x]),
        lambda x, y: mg.where(x > 0, x, y), lambda x, y: mg.where(y > 0, x, x), lambda x, y: x.t().add(y.t()),
        lambda x, y: mg.nn.functional.linear(x, y), lambda x, y: mg.nn.functional.linear(x, x, y[:, 0]),
        lambda x, y: x.unsqueeze(0) @ y.t().unsqueeze(0), lambda x, y: mg.tensor(1.0).add_(x.sum()),
        lambda x, y: x.clamp(min=y), lambda x, y: mg.maximum(y, x),
    ],
)  # fmt: skip
def test_mixtures_are_refused(program):
    with pytest.raises(RuntimeError, match=MIXED):
        program(mg.tensor(X, device="cuda"), mg.tensor(Y))


def test_training_steps():
    """Losses and weights of plain gradient descent."""

    def train(device):
        mg.manual_seed(0)
        model = mg.nn.Sequential(mg.nn.Linear(4, 8), mg.nn.ReLU(), mg.nn.Linear(8, 1)).to(device)
        x, y, losses = mg.tensor(X, device=device), mg.tensor(Y[:, :1], device=device), []
        for _ in range(5):
            model.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            with mg.no_grad():
                for p in model.parameters():
                    p.sub_(p.grad, alpha=0.1)
            losses.append(loss.detach())
        return [*losses, *(p.detach() for p in model.parameters())]

    same(train("cuda"), train("cpu"))


def test_version_counters_and_freed_graphs():
    x = leaf()
    y = x * 2
    z = y.square()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    z = x.square().sum()
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()


def test_anomaly_detection():
    x = mg.tensor([-1.0], device="cuda", requires_grad=True)
    with (
        pytest.warns(UserWarning, match="Anomaly|Error detected"),
        mg.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match="nan"),
    ):
        x.sqrt().sum().backward()


def test_gradcheck():
    a, b = (mg.tensor(v, dtype=mg.float64, device="cuda", requires_grad=True) for v in (X, Y))
    for fast in (False, True):
        assert mg.autograd.gradcheck(lambda a, b: (a * b).tanh() @ b.t(), (a, b), fast_mode=fast)
    values(a, mg.tensor(X, dtype=mg.float64))
    assert mg.autograd.gradgradcheck(lambda a: a.sigmoid(), a, gen_non_contig_grad_outputs=True)
    wrong = mg.autograd.Function
    wrong = type(
        "Wrong", (wrong,), {"forward": staticmethod(lambda c, x: x * 2), "backward": staticmethod(lambda c, g: g)}
    )
    with pytest.raises(mg.autograd.GradcheckError):
        mg.autograd.gradcheck(wrong.apply, (a,))
