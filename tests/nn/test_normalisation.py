"""What layers that normalise remember, Embedding's padding, and the Gumbel softmax; parity has the rest."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F


def test_running_statistics():
    x = np.random.default_rng(0).standard_normal((3, 8, 2)).astype(np.float32)
    for momentum, shares in ((0.1, [0.081, 0.09, 0.1]), (None, [1 / 3, 1 / 3, 1 / 3])):
        layer = nn.BatchNorm1d(2, momentum=momentum)
        for batch in x:
            layer(mg.from_numpy(batch))
        start = 1 - sum(shares)
        mean = sum(s * b.mean(0) for s, b in zip(shares, x, strict=True))
        var = start + sum(s * b.var(0, ddof=1) for s, b in zip(shares, x, strict=True))
        np.testing.assert_allclose(layer.running_mean.numpy(), mean, 1e-5, 1e-6)
        np.testing.assert_allclose(layer.running_var.numpy(), var, 1e-5)
        assert layer.num_batches_tracked.item() == 3
        before = layer.state_dict()["running_mean"].tolist()
        y = layer.eval()(mg.from_numpy(x[0]))
        assert layer.running_mean.tolist() == before
        np.testing.assert_allclose(y.detach().numpy(), (x[0] - mean) / np.sqrt(var + 1e-5), 1e-4, 1e-5)
        layer.reset_running_stats()
        assert layer.running_mean.tolist() == [0, 0] and layer.num_batches_tracked.item() == 0


def test_a_compiled_step_with_batch_norm_and_embedding_has_the_eager_bits():
    def made():
        mg.manual_seed(0)
        table, net = nn.Embedding(5, 3, padding_idx=0), nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3), nn.PReLU())
        optimizer = mg.optim.Adam([*table.parameters(), *net.parameters()])

        def step(i):
            optimizer.zero_grad()
            loss = net(table(i)).square().sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, [*table.state_dict().values(), *net.state_dict().values()]

    (eager, wanted), (step, found) = made(), made()
    run = mg.compile(step)
    for n in range(8):
        i = (mg.arange(6) * (n + 1)) % 5
        assert eager(i).item() == run(i).item()
    assert run.cache_info().hits >= 4
    for a, b in zip(found, wanted, strict=True):
        assert a.tolist() == b.tolist()
    assert wanted[0][0].tolist() == [0, 0, 0]


def test_gumbel_softmax_draws_by_the_probabilities():
    mg.manual_seed(0)
    logits = mg.tensor([0.1, 0.3, 0.6], requires_grad=True).log()
    drawn = F.gumbel_softmax(logits.expand(4000, 3), hard=True)
    assert set(drawn.sum(1).tolist()) <= {1.0, 1.0 + 2**-23, 1.0 - 2**-24}
    np.testing.assert_allclose(drawn.detach().numpy().mean(0), [0.1, 0.3, 0.6], atol=0.03)
    soft = F.gumbel_softmax(mg.zeros(5, 2, requires_grad=True), tau=0.5)
    soft[:, 0].sum().backward()
    assert ((soft > 0) & (soft < 1)).all()


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"sparse": True}, {"scale_grad_by_freq": True}], ids=str)
def test_embedding_refuses_what_it_does_not_do(option):
    with pytest.raises(NotImplementedError, match="not supported"):
        nn.Embedding(3, 2, **option)(mg.tensor([1]))
