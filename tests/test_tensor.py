"""Tensor as users hold it: attributes, conversions, copies, operators with bad operands, in-place methods."""

import copy
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES = [(), (1,), (5,), (0,), (2, 3), (3, 0, 2), (2, 3, 4), (1,) * 8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attributes_and_lists(shape, dtype):
    a = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    x = mg.tensor(a)
    assert x.shape == shape == x.size() and x.ndim == x.dim() == len(shape)
    assert x.numel() == x.nelement() == x.shape.numel() == a.size
    assert x.element_size() == a.itemsize and x.nbytes == a.nbytes
    assert x.tolist() == a.tolist()
    assert x.is_contiguous() and x.storage_offset() == 0 and x.data_ptr() % 64 == 0
    assert [x.size(i) for i in range(-len(shape), 0)] == list(shape)
    assert x.dtype is getattr(mg, dtype) and x.is_floating_point() == (dtype[0] == "f")
    assert not x.requires_grad and x.is_leaf and x.grad is None and x.grad_fn is None
    if len(shape) > 1:
        assert x.T.tolist() == a.T.tolist()
        assert not a.size or x.T.numpy().strides == a.T.strides


def test_size_is_a_tuple():
    s = mg.zeros(2, 3, 4).shape
    assert isinstance(s, tuple) and s == (2, 3, 4) and s[1:].numel() == 12 and s[-1] == 4
    assert s + (5,) == (2, 3, 4, 5) and isinstance(s[:2], mg.Size) and hash(s) == hash((2, 3, 4))
    with pytest.raises(IndexError):
        mg.zeros(2, 3).size(2)


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_conversions(source, target):
    a = np.array([0, 1, 0, 1]).astype(source)
    x = mg.tensor(a)
    d = getattr(mg, target)
    short = {"float32": "float", "float64": "double", "int64": "long", "int32": "int", "int16": "short",
             "int8": "char", "uint8": "byte", "bool": "bool"}[target]  # fmt: skip
    for y in (x.to(d), x.to("cpu", d), x.to(dtype=d), x.type(d), getattr(x, short)(), x.to(mg.zeros(1, dtype=d)),
              x.type_as(mg.zeros(1, dtype=d))):  # fmt: skip
        assert y.dtype is d
        np.testing.assert_array_equal(y.numpy(), a.astype(target))
        assert (y is x) == (source == target)


def test_to():
    x = mg.tensor([1.5], requires_grad=True)
    assert x.to("cpu") is x.cpu() is x.to(mg.device("cpu"), non_blocking=True) is x
    assert x.to(mg.float32, copy=True) is not x
    y = x.double()
    (y * 2).sum().backward()
    assert x.grad.dtype is mg.float32 and x.grad.tolist() == [2.0]
    assert x.long().grad_fn is None
    with pytest.raises(RuntimeError, match="cuda"):
        x.to("cuda")
    with pytest.raises(TypeError, match="expected a dtype"):
        x.to(1.5)
    assert mg.zeros(1).type() == "minigrad.FloatTensor"


# --- NumPy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_memory(dtype):
    x = mg.zeros(3, 4, dtype=getattr(mg, dtype))
    a = x.numpy()
    assert a.dtype == dtype and a.flags.writeable
    a[1, 2] = 1
    assert x[1, 2].item() == 1
    for view in (x.T, x[1:], x[:, 2], x[1:2, 1]):
        assert np.shares_memory(view.numpy(), a)
        np.testing.assert_array_equal(view.numpy(), np.array(view.tolist()).reshape(view.shape))
    del x, view
    assert a[1, 2] == 1  # the array keeps the memory


def test_numpy_of_a_tensor_that_requires_grad():
    x = mg.ones(2, requires_grad=True)
    for convert in (lambda: x.numpy(), lambda: np.asarray(x), lambda: (x * 2).numpy()):
        with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
            convert()
    assert x.numpy(force=True).tolist() == x.detach().numpy().tolist() == [1.0, 1.0]


def test_array_protocol():
    x = mg.arange(3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype=np.float32, copy=False)
    assert np.sum(x.numpy()) == 3 and np.stack([x, x]).shape == (2, 3)


@pytest.mark.parametrize("other", [np.ones(3), np.float64(2), np.float32(2), np.int64(2), np.array(2.0), True, 2, 2.5])
def test_operators_with_numpy_and_numbers(other):
    x = mg.tensor([1.0, 2.0, 3.0])
    for made in (x + other, other + x):
        assert isinstance(made, mg.Tensor)
        np.testing.assert_allclose(made.numpy(), x.numpy() + other)
    for made in (other - x, other * x, other / x):
        assert isinstance(made, mg.Tensor)
    assert isinstance(x == other, mg.Tensor) and isinstance(other > x, mg.Tensor)


@pytest.mark.parametrize("bad", ["a", None, [1], (1,), {}, object(), 1j])
def test_operators_with_what_is_no_number(bad):
    x = mg.ones(2)
    for operate in (lambda: x + bad, lambda: bad - x, lambda: x @ bad, lambda: x < bad, lambda: bad / x,
                    lambda: x**bad, lambda: x // bad, lambda: x & bad):  # fmt: skip
        with pytest.raises(TypeError):
            operate()


def test_methods_and_functions_with_bad_operands():
    x = mg.ones(2)
    for call in (
        lambda: mg.mul(x), lambda: mg.exp(x, x), lambda: x.exp(2), lambda: x.mul(), lambda: x.mul_(), lambda: x.exp_(2),
        lambda: mg.exp(None), lambda: mg.exp("a"), lambda: mg.add(x, None), lambda: mg.add("a", x), lambda: x.maximum(),
        lambda: x.floor_divide(), lambda: mg.eq(x), lambda: x.pow(None), lambda: x.lt_(None),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        x += None
    with pytest.raises(TypeError):
        x += "a"


def test_broadcasting_errors_name_the_shapes():
    with pytest.raises(RuntimeError, match=r"size of tensor a \(3\) must match .* b \(2\) .*\(3,\) and \(2,\)"):
        mg.ones(3) + mg.ones(2)
    with pytest.raises(RuntimeError, match="output with shape"):
        mg.ones(1).add_(mg.ones(3))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: mg.tensor([5, 6]) // 0, RuntimeError),
        (lambda: mg.tensor([5, 6]) % mg.tensor([1, 0]), RuntimeError),
        (lambda: mg.tensor([5, 6]) ** -1, RuntimeError),
        (lambda: mg.tensor([True]) ** mg.tensor([True]), NotImplementedError),
        (lambda: mg.tensor([5, 6], dtype=mg.int8) ** 300, RuntimeError),
        (lambda: mg.tensor([5, 6]) + 2**64, OverflowError),
        (lambda: -mg.tensor([True]), RuntimeError),
        (lambda: mg.tensor([True]) - mg.tensor([True]), RuntimeError),
        (lambda: mg.tensor([1.0]) & mg.tensor([1.0]), RuntimeError),
        (lambda: bool(mg.ones(2)), RuntimeError),
        (lambda: bool(mg.ones(0)), RuntimeError),
        (lambda: mg.ones(2).item(), RuntimeError),
        (lambda: float(mg.ones(2)), RuntimeError),
        (lambda: [1, 2][mg.tensor(1.0)], TypeError),
        (lambda: len(mg.tensor(1.0)), TypeError),
        (lambda: list(mg.tensor(1.0)), TypeError),
        (lambda: mg.tensor([1]).add_(0.5), RuntimeError),
        (lambda: mg.tensor([1]).clamp_(0.5), RuntimeError),
        (lambda: mg.tensor([1]).exp_(), RuntimeError),
        (lambda: mg.ones(2).fill_(mg.ones(2)), RuntimeError),
        (lambda: "a" in mg.ones(2), RuntimeError),
    ],
)
def test_what_is_refused(call, error):
    with pytest.raises(error):
        call()


# --- Python's protocols -----------------------------------------------------------------------------------------------


def test_python_protocols():
    x = mg.tensor([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]] and 3 in x and 7 not in x
    assert int(mg.tensor(3.7)) == 3 and float(mg.tensor(3)) == 3.0 and [10, 20][mg.tensor(1)] == 20
    assert bool(mg.tensor(0.0)) is False and mg.tensor([[True]]).item() is True
    a, b = mg.tensor([1.0, 2.0])
    assert a.item() == 1.0 and b.item() == 2.0
    assert len({mg.zeros(1), mg.zeros(1)}) == 2
    assert +x is x and (-x).tolist() == [[-1, -2], [-3, -4]] and abs(-x).tolist() == x.tolist()


@pytest.mark.parametrize("protocol", range(6))
def test_pickle(protocol):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = pickle.loads(pickle.dumps(x, protocol))
    assert y.tolist() == [1.0, 2.0] and y.requires_grad and y.is_leaf and y.grad is None
    z = pickle.loads(pickle.dumps(mg.arange(6).reshape(2, 3).T, protocol))
    assert z.tolist() == [[0, 3], [1, 4], [2, 5]] and z.dtype is mg.int64
    z.add_(1)
    assert pickle.loads(pickle.dumps((x * 2), protocol)).grad_fn is None
    p = pickle.loads(pickle.dumps(mg.nn.Parameter(mg.ones(2)), protocol))
    assert type(p) is mg.nn.Parameter and p.requires_grad
    assert pickle.loads(pickle.dumps(mg.float64, protocol)) is mg.float64
    assert pickle.loads(pickle.dumps(mg.device("cpu"), protocol)) == mg.device("cpu")


def test_copy_and_deepcopy():
    x = mg.tensor([1.0], requires_grad=True)
    (x * 3).sum().backward()
    y = copy.deepcopy(x)
    with mg.no_grad():
        y.add_(1)
    assert x.tolist() == [1.0] and y.tolist() == [2.0] and y.requires_grad and y.grad.tolist() == [3.0]
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]
    assert copy.copy(x).data_ptr() == x.data_ptr() and copy.copy(x).requires_grad
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(x * 2)


# --- in-place methods -------------------------------------------------------------------------------------------------

IN_PLACE = [
    ("add_", (2.0,), lambda a: a + 2),
    ("sub_", (2.0,), lambda a: a - 2),
    ("mul_", (2.0,), lambda a: a * 2),
    ("div_", (2.0,), lambda a: a / 2),
    ("pow_", (2,), lambda a: a**2),
    ("neg_", (), lambda a: -a),
    ("abs_", (), np.abs),
    ("exp_", (), np.exp),
    ("log_", (), np.log),
    ("sqrt_", (), np.sqrt),
    ("square_", (), np.square),
    ("reciprocal_", (), np.reciprocal),
    ("tanh_", (), np.tanh),
    ("sigmoid_", (), lambda a: 1 / (1 + np.exp(-a))),
    ("relu_", (), lambda a: np.maximum(a, 0)),
    ("clamp_", (1.0, 2.0), lambda a: np.clip(a, 1, 2)),
    ("floor_", (), np.floor),
    ("fill_", (3.0,), lambda a: np.full_like(a, 3)),
    ("zero_", (), np.zeros_like),
    ("copy_", (4.0,), lambda a: np.full_like(a, 4)),
    ("remainder_", (2.0,), lambda a: a % 2),
    ("lerp_", (2.0, 0.5), lambda a: a + 0.5 * (2 - a)),
    ("eq_", (1.5,), lambda a: (a == 1.5).astype(a.dtype)),
    ("cumsum_", (0,), lambda a: np.cumsum(a, 0)),
]


@pytest.mark.parametrize(("name", "arguments", "wanted"), IN_PLACE, ids=[n for n, _, _ in IN_PLACE])
@pytest.mark.parametrize("layout", ["contiguous", "view", "transposed"])
def test_in_place_methods(name, arguments, wanted, layout):
    a = np.linspace(0.5, 3, 12).reshape(3, 4)
    base = mg.tensor(a)
    part = {"contiguous": lambda x: x, "view": lambda x: x[1:, ::2], "transposed": lambda x: x.T}[layout]
    x = part(base)
    version = x._version
    assert getattr(x, name)(*arguments) is x
    part(a)[...] = wanted(part(a).copy())
    np.testing.assert_allclose(base.numpy(), a, rtol=1e-12)
    assert x._version > version


@pytest.mark.parametrize(("name", "arguments"), [(n, a) for n, a, _ in IN_PLACE if n not in ("floor_", "eq_")])
def test_gradients_of_in_place_methods(name, arguments):
    data = np.linspace(0.55, 3, 6)

    def gradient(operate):
        w = mg.tensor(data, requires_grad=True)
        (operate(w * 1.0) * mg.arange(1, 7)).sum().backward()
        return w.grad.numpy()

    if name in ("fill_", "zero_", "copy_"):
        assert gradient(lambda x: getattr(x, name)(*arguments)).tolist() == [0] * 6
        assert gradient(lambda x: (getattr(x[1:3], name)(*arguments), x)[1]).tolist() == [1, 0, 0, 4, 5, 6]
        return
    np.testing.assert_allclose(
        gradient(lambda x: getattr(x, name)(*arguments)), gradient(lambda x: getattr(x, name[:-1])(*arguments))
    )


def test_scaled_arithmetic():
    x, y = mg.tensor([1.0, 2.0]), mg.tensor([10.0, 20.0])
    assert mg.add(x, y, alpha=2).tolist() == x.add(y, alpha=2).tolist() == [21.0, 42.0]
    assert x.sub(y, alpha=0.5).tolist() == [-4.0, -8.0] and mg.add(x, 1, alpha=3).tolist() == [4.0, 5.0]
    assert x.clone().add_(y, alpha=-1).tolist() == [-9.0, -18.0]
    assert mg.addcmul(x, x, y, value=2).tolist() == x.clone().addcmul_(x, y, value=2).tolist() == [21.0, 82.0]
    assert mg.addcdiv(x, y, x).tolist() == x.clone().addcdiv_(y, x).tolist() == [11.0, 12.0]
    a, b = mg.tensor([7, -7, 6]), mg.tensor([2, 2, 3])
    assert mg.div(a, b, rounding_mode="trunc").tolist() == [3, -3, 2]
    assert mg.div(a, b, rounding_mode="floor").tolist() == [3, -4, 2]
    assert mg.div(a, 2.0, rounding_mode="trunc").tolist() == [3.0, -3.0, 3.0]
    assert mg.div(a, b).dtype is mg.float32
    with pytest.raises(RuntimeError, match="rounding_mode"):
        mg.div(a, b, rounding_mode="up")


def test_new_tensors_like_this_one():
    x = mg.zeros(2, dtype=mg.float64)
    assert x.new_zeros(3).dtype is x.new_ones((2, 2)).dtype is x.new_full((1,), 2).dtype is mg.float64
    assert x.new_tensor([1, 2]).dtype is mg.float64 and x.new_empty(2, dtype=mg.int8).dtype is mg.int8


def test_comparison_of_whole_tensors():
    x = mg.tensor([1.0, float("nan")])
    assert mg.equal(mg.ones(2), mg.ones(2)) and not mg.equal(x, x) and not mg.equal(mg.ones(2), mg.ones(3))
    assert mg.allclose(x, x, equal_nan=True) and not mg.allclose(x, x)
    inf = mg.tensor([float("inf"), 1.0])
    assert mg.isclose(inf, inf).all() and not mg.isclose(inf, -inf)[0]
    assert mg.isclose(mg.tensor([100]), mg.tensor([101]), rtol=0.1).item()
    with pytest.raises(RuntimeError, match="did not match"):
        mg.isclose(mg.ones(1), mg.ones(1, dtype=mg.float64))


# --- grad mode --------------------------------------------------------------------------------------------------------


def test_grad_of_a_non_leaf_warns_at_the_line_that_asks():
    y = mg.ones(1, requires_grad=True) * 2
    with pytest.warns(UserWarning, match="not a leaf") as caught:
        assert y.grad is None
    assert caught[0].filename == __file__
    y.retain_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert y.grad is None


def test_grad_modes_as_decorators():
    @mg.no_grad()
    def off(x):
        """What it does."""
        return mg.is_grad_enabled()

    @mg.no_grad
    def bare(x):
        return mg.is_grad_enabled()

    @mg.set_grad_enabled(False)
    def disabled(x):
        return mg.is_grad_enabled()

    assert not off(1) and not bare(1) and not disabled(1) and mg.is_grad_enabled()
    assert off.__name__ == "off" and off.__doc__ == "What it does." and bare.__name__ == "bare"

    class Model:
        @mg.no_grad()
        def one(self):
            return mg.is_grad_enabled()

        @mg.no_grad
        def two(self):
            return mg.is_grad_enabled()

    assert not Model().one() and not Model().two()


@pytest.mark.parametrize("decorate", [mg.no_grad(), mg.no_grad], ids=["called", "bare"])
def test_grad_modes_on_generator_functions(decorate):
    seen = []

    @decorate
    def steps():
        try:
            got = yield mg.is_grad_enabled()
            seen.append(got)
            try:
                yield mg.is_grad_enabled()
            except KeyError:
                seen.append("caught")
            yield mg.is_grad_enabled()
        finally:
            seen.append(mg.is_grad_enabled())
        return 5

    g = steps()
    assert next(g) is False and mg.is_grad_enabled()
    assert g.send("sent") is False and mg.is_grad_enabled()
    assert g.throw(KeyError()) is False and mg.is_grad_enabled()
    g.close()
    assert seen == ["sent", "caught", False] and mg.is_grad_enabled()

    def outer():
        return (yield from steps())

    steps_taken = outer()
    assert [next(steps_taken) for _ in range(3)] == [False] * 3
    with pytest.raises(StopIteration) as stop:
        next(steps_taken)
    assert stop.value.value == 5


def test_functions_document_themselves():
    for name in ("exp", "add", "sum", "maximum", "eq", "reshape", "where"):
        function = getattr(mg, name)
        assert function.__doc__ and function.__name__ == name
        assert getattr(mg.Tensor, name).__doc__


def test_a_subclass_that_forgets_to_initialise():
    class Forgetful(mg.Tensor):
        def __init__(self):
            pass

    x = Forgetful()
    assert x.shape == (0,) and (x + 1).shape == (0,) and x.sum().item() == 0.0 and x._version == 0
    assert x.numpy().shape == (0,) and repr(x) == "tensor([])"


def test_the_type_stub_lists_every_method():
    stub = Path(mg.__file__).with_name("_engine.pyi").read_text().split("class Tensor:")[1]
    listed = set(re.findall(r"^    (?:def )?(\w+)[(:]", stub, re.M))
    assert {name for name in vars(mg.Tensor) if not name.startswith("_")} - listed == set()


def test_dtypes_of_three_operands():
    wide, narrow = mg.tensor([1 / 3], dtype=mg.float64), mg.tensor([3.0])
    assert mg.addcmul(wide, narrow, narrow, value=0.1).item() == 1 / 3 + 3.0 * 3.0 * 0.1  # not by way of float32
    assert mg.addcdiv(wide, narrow, narrow * 3).item() == 1 / 3 + 3.0 / 9.0
    large = mg.tensor([200], dtype=mg.uint8)
    assert mg.addcmul(mg.tensor([1]), large, large).item() == 40001
    assert mg.tensor([1]).addcmul_(mg.tensor([2]), mg.tensor([3]), value=2.0).tolist() == [13]
    with pytest.raises(RuntimeError, match="addcdiv"):
        mg.addcdiv(mg.tensor([1]), mg.tensor([2]), mg.tensor([3]))


def test_comparing_in_place_with_another_dtype():
    x = mg.tensor([1, 2])
    assert x.eq_(mg.tensor([1.0, 2.5])) is x and x.tolist() == [1, 0] and x.dtype is mg.int64
    assert mg.tensor([1.0, 3.0]).lt_(mg.tensor([2], dtype=mg.float64)).tolist() == [1.0, 0.0]


def test_squares_of_bools_are_integers():
    x = mg.tensor([True, False])
    assert x.square().dtype is mg.int64 and x.square().tolist() == [1, 0]
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.square_()


def test_nothing_divided_by_zero_is_nothing():
    x = mg.zeros(0, dtype=mg.int64)
    assert (x // 0).shape == (x % 0).shape == (x // mg.tensor(0)).shape == (0,)
    assert x.floor_divide_(0) is x
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        mg.zeros(1, dtype=mg.int64) // 0
