"""Views, in-place operations through them, and what that does to derivatives."""

import gc
import random

import numpy as np
import pytest

import minigrad as mg

from .derivatives import check_derivatives
from .garbage import collector_off


def rand(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


VIEWS = {
    "row": lambda x: x[1],
    "last row": lambda x: x[-1],
    "rows": lambda x: x[1:3],
    "every second": lambda x: x[::2],
    "column": lambda x: x[:, 2],
    "block": lambda x: x[1:3, ::2],
    "element": lambda x: x[2, 3],
    "all": lambda x: x[:],
    "none": lambda x: x[2:2],
    "new axis": lambda x: x[None, 1:, None],
    "t": lambda x: x.t(),
    "t of rows": lambda x: x[1:].t(),
    "row of t": lambda x: x.t()[1],
    "flat": lambda x: x.view(-1),
    "flat part": lambda x: x.view(-1)[3:9],
    "split in two": lambda x: x.view(2, 2, 4),
    "part of a split": lambda x: x.view(2, 2, 4)[:, 1, ::3],
    "unsqueezed": lambda x: x.unsqueeze(1),
    "squeezed": lambda x: x[1:2].squeeze(0),
    "permuted": lambda x: x.view(2, 2, 4).permute(2, 0, 1),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 1),
    "second part": lambda x: x.split(2)[1],
    "unbound": lambda x: x.unbind(1)[2],
    "diagonal": lambda x: x.as_strided((4,), (5,)),
    "as_strided": lambda x: x.as_strided((2, 3), (8, 1), 1),
    "detour": lambda x: x.reshape(16)[2:].view(7, 2)[1:, 1][::2],
}

EDITS = {
    "mul": lambda v, w: v.mul_(w),
    "imul": lambda v, w: v.__imul__(w),
    "add number": lambda v, w: v.add_(2.0),
    "square": lambda v, w: v.mul_(v.clone()),
    "exp": lambda v, w: v.exp_(),
    "copy": lambda v, w: v.copy_(w),
    "zero": lambda v, w: v.zero_(),
    "fill by w": lambda v, w: v.copy_(w.expand(v.shape)),
    "set": lambda v, w: v.__setitem__(Ellipsis, w),
}


def masked(x, view):
    """A 0/1 array of the elements of ``x`` that ``view`` shows."""
    m = mg.zeros(x.shape, dtype=mg.float64)
    view(m).fill_(1.0)
    return m


def functional_edit(name, v, w):
    return {
        "mul": lambda: v * w, "imul": lambda: v * w, "add number": lambda: v + 2.0, "square": lambda: v * v,
        "exp": lambda: v.exp(), "copy": lambda: v * 0 + w, "zero": lambda: v * 0, "fill by w": lambda: v * 0 + w,
        "set": lambda: v * 0 + w,
    }[name]()  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("view", VIEWS)
def test_write_through_a_view(view, edit):
    """In place through a view equals a masked functional form: values, first derivatives, of base and view."""
    take, w0, x0 = VIEWS[view], 1.25, rand(4, 4)

    def in_place(x, w):
        y = x * 1.5
        v = take(y)
        EDITS[edit](v, w)
        return mg.cat([y.reshape(-1), (v * 2).reshape(-1), (y * y).reshape(-1)])

    def functional(x, w):
        y = x * 1.5
        m = masked(y, take)
        y = y * (1 - m) + functional_edit(edit, y, w) * m
        return mg.cat([y.reshape(-1), (take(y) * 2).reshape(-1), (y * y).reshape(-1)])

    results = []
    for f in (in_place, functional):
        x, w = mg.tensor(x0, requires_grad=True), mg.tensor(w0, dtype=mg.float64, requires_grad=True)
        out = f(x, w)
        weights = mg.from_numpy(np.random.default_rng(1).uniform(0.5, 1.5, tuple(out.shape)))
        (out * weights).sum().backward()
        results.append([out.detach().numpy(), x.grad.numpy(), 0.0 if w.grad is None else w.grad.numpy()])
    for found, expected in zip(*results):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def chain(x, w):
    y = x * 2
    a, b = y[0], y.t()[1]
    a.mul_(w)
    b.add_(a.sum())
    a[1:].exp_()
    y *= 1.5
    b[0] = w[0] * w[1]
    return y * a.sum() + b.sum()


def base_edit(x, w):
    y = x * 1
    v, t = y[1:], y.t()
    y.mul_(w)
    y[0].add_(v[0])
    return v * t[:, 1:].t() + y[1:] * 3


def views_of_views(x, w):
    y = x.clone()
    v = y.view(-1)[1:]
    u = v[1::2]
    q = u[1:]
    q.mul_(w[1])
    u += 1
    v[0] = w[2]
    return mg.cat([y.view(-1), v, u, q])


def write_a_gradient_into_a_buffer(x, w):
    y = mg.zeros(3, 3, dtype=mg.float64)
    y[0] = x[0] * w
    y[1:, 1] = w[0]
    y[2] = y[0] * 2
    return y


def loop(x, w):
    y = mg.zeros(4, 3, dtype=mg.float64)
    for i in range(3):
        y[i] = x[i]
        y[i + 1] += y[i].clone() * w
    return y


def expanded(x, w):
    y = x[:, :1] * 1
    e = y.expand(3, 3)
    y.mul_(w[0])
    return e * x


def overlapping(x, w):
    y = x.reshape(9) * 1
    windows = y.as_strided((4, 3), (2, 1))
    y.mul_(w[0])
    return windows * windows.sum()


def advanced(x, w):
    y = x * 1
    v = y[1:]
    index = mg.tensor([0, 2])
    v[:, index] = w[:2]
    y[index, index] *= 3
    return y + v[0]


@pytest.mark.parametrize(
    "f",
    [chain, base_edit, views_of_views, write_a_gradient_into_a_buffer, loop, expanded, overlapping, advanced],
    ids=lambda f: f.__name__,
)
def test_derivatives(f):
    check_derivatives(f, rand(3, 3), rand(3, seed=1))


def test_base_that_is_not_contiguous():
    """A detached transpose, or a strided array, as the base of views that are written."""

    def f(w, strided=False):
        values = np.arange(1.0, 13.0).reshape(3, 4)
        room = np.zeros((3, 8))
        room[:, ::2] = values
        base = mg.from_numpy(room[:, ::2]) if strided else mg.tensor(values.T.copy()).t().detach()
        assert not base.is_contiguous() and base._base is None
        v, u = base[1], base[:, 1:3]
        v.mul_(w)
        base.mul_(2.0)
        u.add_(v[0])
        base[mg.tensor([0, 2]), 1] = w[:2]
        return mg.cat([base.reshape(-1), v, u.reshape(-1)])

    check_derivatives(f, rand(4))
    check_derivatives(lambda w: f(w, strided=True), rand(4))


def test_views_share_memory():
    x = mg.arange(12).view(3, 4)
    views = [
        x[1], x[:, 1], x.t(), x.view(-1), x.reshape(4, 3), x.permute(1, 0), x.unsqueeze(0), x.expand(2, 3, 4),
        x.flatten(), x.narrow(0, 0, 2), x.split(2)[0], x.unbind()[0], x.diagonal(), x.squeeze(), x[...], x[None],
        x.unflatten(1, (2, 2)), x.movedim(0, 1), x.T, x.mT, x.as_strided((2,), (3,)),
    ]  # fmt: skip
    for v in views:
        assert v._base is x._base
        before = v._version
        assert v.data_ptr() >= x.data_ptr()
        x[0] += 1
        assert v._version > before
    assert x.contiguous() is x
    for c in (
        x.flip(0),
        x.repeat(1, 1),
        mg.cat([x]),
        x.t().contiguous(),
        x.t().reshape(-1),
        x[mg.tensor([0])],
        x.diag(),
    ):
        assert c._base is None


def test_in_place_changes_every_view():
    x = mg.zeros(2, 3)
    v, t = x[0], x.t()
    v += 1
    t[2] = 5
    assert x.tolist() == [[1, 1, 5], [0, 0, 5]]
    assert t.tolist() == [[1, 0], [1, 0], [5, 5]]


def test_saved_tensor_edited_through_a_view():
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    y[0] = 5.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_edit_before_use_is_fine():
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    v = y[1:]
    v.mul_(3.0)
    (y * y).sum().backward()
    assert x.grad.tolist() == [8.0, 72.0, 72.0]


def test_errors():
    leaf = mg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        leaf += 1
    for write in (lambda v: v.add_(1), lambda v: v.__setitem__(0, 1.0), lambda v: v.__setitem__([0], 1.0),
                  lambda v: v.masked_fill_(v > 0, 0.0)):  # fmt: skip
        with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
            write(leaf[:2])
    for index in (0, slice(None), [0, 1], mg.tensor([True, False, True])):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            leaf[index] = 1.0
    assert leaf.tolist() == [1.0, 1.0, 1.0]
    with mg.no_grad():
        leaf[0] = 7.0
        leaf[[1, 2]] = 8.0
        leaf[:2].mul_(2)
    assert leaf.tolist() == [14.0, 16.0, 8.0] and leaf.is_leaf and leaf.grad_fn is None
    wide = mg.ones(3, 1).expand(3, 4)
    for write in (lambda: wide.add_(1), lambda: wide.__setitem__(0, 1.0), lambda: wide.__setitem__([0], 1.0)):
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single"):
            write()
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        mg.ones(3).add_(mg.ones(2, 3))
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (leaf * 1)[0].detach_()
    overlapping = (leaf * 1).as_strided((2, 2), (1, 1))
    with pytest.raises(RuntimeError, match="clone"):
        overlapping.mul_(2)


def test_history_of_views():
    x = mg.ones(4, requires_grad=True)
    y = x * 1
    v = y[:2]
    assert v.grad_fn.name == "SliceBackward0"
    y.mul_(2)
    assert v.grad_fn.name == "AsStridedBackward0"
    v.mul_(2)
    assert y.grad_fn.name == "SliceWriteBackward0" and v.requires_grad
    buffer = mg.zeros(4)
    part = buffer[1:3]
    assert not part.requires_grad
    buffer[2] = x[0]
    assert buffer.requires_grad and part.requires_grad and part.grad_fn is not None and not part.is_leaf


def test_view_brought_up_to_date_without_recording():
    """A view whose base was rewritten knows its history also when it is first asked under no_grad."""
    x = mg.ones(4, requires_grad=True)
    y = x * 1
    v = y[:2]
    y.mul_(3)
    with mg.no_grad():
        assert v.requires_grad and not v.is_leaf
        v.sum().item()
    v.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 0.0, 0.0]


def test_no_grad_edits_keep_history():
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    v = y[1:]
    with mg.no_grad():
        y.add_(1)
        v.zero_()
    assert y.tolist() == [3.0, 0.0, 0.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_detached_edit_is_seen():
    x = mg.ones(3, requires_grad=True)
    y = x.exp()
    y.detach()[0] = 0.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_view_made_without_recording():
    """Kinder than PyTorch, which refuses: the view follows its base's history."""
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    with mg.no_grad():
        v = y[:2]
    assert not v.requires_grad
    y.mul_(2)
    v.sum().backward()
    assert x.grad.tolist() == [4.0, 4.0, 0.0]


def test_hooks_and_retained_gradients_with_views():
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    y[0].mul_(3)
    y.retain_grad()
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    v = y[:2]
    v.retain_grad()
    (v * v).sum().backward()
    assert v.grad.tolist() == [12.0, 4.0]
    assert y.grad.tolist() == [12.0, 4.0, 0.0] and seen == [[12.0, 4.0, 0.0]]
    assert x.grad.tolist() == [72.0, 8.0, 0.0]


def test_self_assignment_overlap():
    for f in (lambda a: a.__setitem__(slice(1, None), a[:-1]), lambda a: a.__setitem__(slice(None, -1), a[1:]),
              lambda a: a.__setitem__([0, 1, 2], a[2:5])):  # fmt: skip
        a, b = np.arange(6.0), mg.arange(6.0)
        f(a)
        f(b)
        assert b.tolist() == a.tolist()

    def shifted(x):
        y = x * 1
        y[1:] = y[:-1]
        y[:2] *= y[1:3].clone()
        return y

    check_derivatives(shifted, rand(5))


def test_transposed_write():
    a, b = np.arange(9.0).reshape(3, 3), mg.arange(9.0).view(3, 3)
    b.t().copy_(b)
    a[...] = a.T.copy()
    assert b.tolist() == a.tolist()
    check_derivatives(lambda x: (lambda y: y.t().copy_(y.exp() + y[0]) * y)(x * 1), rand(3, 3))


def test_integer_views_have_no_history():
    x = mg.arange(6)
    v = x[2:]
    x += 1
    v *= 2
    assert x.tolist() == [1, 2, 6, 8, 10, 12] and not v.requires_grad


def test_deep_chain_of_edits():
    """Linear in the number of writes, and no recursion."""
    x = mg.ones(2, requires_grad=True)
    y = mg.zeros(300)
    y[0] = x[0]
    for i in range(299):
        y[i + 1] = y[i] * 1.0 + x[1]
    y[299].backward()
    assert x.grad.tolist() == [1.0, 299.0]


def test_constant_over_history():
    """What was there before gets a zero gradient, and the tensor goes on to require one, as in PyTorch."""
    for write in (lambda y: y.zero_(), lambda y: y.fill_(2.0), lambda y: y.copy_(mg.ones(3)), lambda y: y[:].zero_(),
                  lambda y: y.__setitem__(slice(None), 1.0), lambda y: y.__setitem__([0, 1, 2], 1.0)):  # fmt: skip
        x = mg.ones(3, requires_grad=True)
        y = x * 2
        v = y[1:]
        write(y)
        assert y.requires_grad and v.requires_grad
        (y.sum() + v.sum()).backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_source_and_copy_have_gradients_of_their_own():
    x = mg.ones(3, requires_grad=True)
    y = x * 2
    z = mg.zeros(3)
    z.copy_(y)
    z.retain_grad()
    y.retain_grad()
    (z * 3 + y).sum().backward()
    assert z.grad.tolist() == [3.0] * 3 and y.grad.tolist() == [4.0] * 3 and x.grad.tolist() == [8.0] * 3


class Model:
    """Memory as a vector without in-place operations, views as positions in it."""

    def __init__(self, values):
        self.memory = values.reshape(-1)

    def read(self, positions):
        return self.memory[mg.from_numpy(positions.reshape(-1))].reshape(positions.shape)

    def write(self, positions, values):
        self.memory = self.memory.index_put((mg.from_numpy(positions.reshape(-1)),), values.reshape(-1))


def random_view(r, x, positions):
    """A view of ``x`` and the positions of its elements."""
    kind, n = r.randrange(7), positions.ndim
    if kind == 0 and n > 1:
        order = r.sample(range(n), n)
        return x.permute(order), positions.transpose(order)
    if kind == 1 and n:
        i = r.randrange(positions.shape[0])
        return x[i], positions[i]
    if kind == 2 and n:
        start, step = r.randrange(positions.shape[0]), r.choice([1, 2])
        return x[start::step], positions[start::step]
    if kind == 3 and n and x.is_contiguous():
        return x.view(-1), positions.reshape(-1)
    if kind == 4 and n > 1:
        i = r.randrange(positions.shape[-1])
        return x[..., i], positions[..., i]
    if kind == 5 and n < 4:
        return x.unsqueeze(-1), positions[..., None]
    if kind == 6 and n > 1:
        return x.diagonal(), np.diagonal(positions).copy()
    return x[...], positions


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed):
    """Programs of views and in-place operations against the same on immutable memory."""
    outs = []
    x0, w0 = rand(3, 4, seed=seed), rand(5, seed=seed + 1)
    for real in (True, False):
        r = random.Random(seed)
        x, w = mg.tensor(x0, requires_grad=True), mg.tensor(w0, requires_grad=True)
        start = [x * 1, mg.tensor(x0), mg.tensor(x0.T.copy()).t().detach()][r.randrange(3)]
        model = Model(start) if not real else None
        shown = [(start, np.arange(12).reshape(3, 4))]
        total = (w * 0).sum()
        for _ in range(r.randrange(3, 14)):
            v, positions = shown[r.randrange(len(shown))]
            action, k = r.randrange(8), r.randrange(5)
            if action < 3:
                shown.append(random_view(r, v, positions))
                continue
            if positions.size == 0:
                continue
            old = v if real else model.read(positions)
            if action == 3:
                if real:
                    v.mul_(w[k])
                else:
                    model.write(positions, old * w[k])
            elif action == 4:
                if real:
                    v.add_(v.clone() * w[k])
                else:
                    model.write(positions, old + old * w[k])
            elif action == 5:
                if real:
                    v[...] = w[k]
                else:
                    model.write(positions, w[k].expand(positions.shape))
            elif action == 6 and positions.ndim:
                rows = np.array([r.randrange(positions.shape[0])])
                if real:
                    v[rows] = w[k] * 2
                else:
                    model.write(positions[rows], (w[k] * 2).expand(positions[rows].shape))
            else:
                total = total + (old.clone() * w[k]).sum()
        for i, (v, positions) in enumerate(shown):
            y = v if real else model.read(positions)
            total = total + (y * y).sum() * (i + 1)
        total.backward()
        grads = [t.grad.numpy() if t.grad is not None else np.zeros(t.shape) for t in (x, w)]
        outs.append([total.item(), *grads])
    for found, expected in zip(*outs):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_no_reference_cycles():
    x = mg.ones(4, 4, requires_grad=True)

    def step():
        y = x * 2
        v, t = y[1], y.t()
        v.mul_(3)
        y.add_(1)
        t[0] = v
        y[[0, 1]] = 2.0
        (t.sum() + v.sum() + y[y > 1].sum() + mg.cat(y.split(2)).sum()).backward()
        x.grad = None

    step()
    with collector_off():
        before = len(gc.get_objects())
        for _ in range(50):
            step()
        assert len(gc.get_objects()) - before < 50
