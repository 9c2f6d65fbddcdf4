"""Parameter: a leaf that shares memory and that modules register."""

import copy
import pickle

import pytest

import minigrad as mg
from minigrad import nn


def test_it_is_a_tensor_that_requires_grad():
    p = nn.Parameter(mg.tensor([1.0, 2.0]))
    assert isinstance(p, mg.Tensor) and p.requires_grad and p.is_leaf
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert type(p + 1) is mg.Tensor and type(p.detach()) is mg.Tensor and type(p.data) is mg.Tensor
    assert nn.Parameter().shape == (0,)
    assert not nn.Parameter(mg.zeros(1), requires_grad=False).requires_grad


def test_it_shares_memory():
    x = mg.zeros(2, 3)
    p = nn.Parameter(x.T)
    assert p.shape == (3, 2) and p.stride() == (1, 3) and p.data_ptr() == x.data_ptr()
    x[0, 1] = 5.0
    assert p.tolist()[1][0] == 5.0


def test_it_forgets_the_history_of_its_data():
    x = mg.ones(2, requires_grad=True)
    p = nn.Parameter(x * 2)
    p.sum().backward()
    assert x.grad is None and p.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("data", [[1.0], 3.0, "a"])
def test_data_must_be_a_tensor(data):
    with pytest.raises(TypeError, match="data must be a Tensor"):
        nn.Parameter(data)


def test_integers_cannot_require_grad():
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(mg.tensor([1]))
    assert nn.Parameter(mg.tensor([1]), requires_grad=False).dtype == mg.int64


class Special(nn.Parameter):
    pass


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("kind", [nn.Parameter, Special])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_copies(copied, kind, requires_grad):
    p = kind(mg.tensor([[1.0, 2.0]], dtype=mg.float64), requires_grad)
    p.note = "kept"
    twin = copied(p)
    assert type(twin) is kind and twin.note == "kept"
    assert twin.requires_grad is requires_grad and twin.dtype == mg.float64
    assert twin.tolist() == p.tolist() and twin.data_ptr() != p.data_ptr()


def test_deepcopy_leaves_the_gradient_behind():
    p = nn.Parameter(mg.ones(2))
    (p * p).sum().backward()
    assert copy.deepcopy(p).grad is None
    pair = copy.deepcopy([p, p])
    assert pair[0] is pair[1]
