"""What an optimizer is made of: defaults, state, param_groups; step(), zero_grad() and add_param_group().

python examples/optimizer_anatomy.py [--device NAME] [--plot FILE.png]

The attribute is param_groups, not params_groups as some courses print it, and an optimizer has no _step_count: that is
the counter of learning-rate schedules.
"""

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn, optim

START = [[0.6614, 0.2669], [0.0617, 0.6213]]


def parameter():
    w = nn.Parameter(mg.tensor(START))
    w.grad = mg.ones(2, 2)
    return w


def step(lr):
    """The parameter after one step along gradients of 1."""
    w = parameter()
    optim.SGD([w], lr=lr).step()
    return w.detach()


def main():
    options = arguments(__doc__)
    w = parameter()
    optimizer = optim.SGD([w], lr=0.1)
    print("defaults", optimizer.defaults)
    true("one group: params and the defaults", optimizer.param_groups == [{"params": [w]} | optimizer.defaults])
    true("the group holds w itself, no copy", optimizer.param_groups[0]["params"][0] is w)
    true("state is empty before the first step", dict(optimizer.state) == {})
    true("no params_groups, no _step_count", not {"params_groups", "_step_count"} & set(dir(optimizer)))

    for lr, expected in ((1.0, [[-0.3386, -0.7331], [-0.9383, -0.3787]]), (0.1, [[0.5614, 0.1669], [-0.0383, 0.5213]])):
        close(f"one step, lr {lr}", step(lr), expected, 1e-6)

    optimizer.zero_grad(set_to_none=False)
    true("zero_grad(set_to_none=False): zeros", mg.equal(w.grad, mg.zeros(2, 2)))
    optimizer.zero_grad()
    true("zero_grad(): None", w.grad is None)
    for times in (1, 2):
        (3 * w).sum().backward()
        close(f"gradient after backward() number {times}", w.grad, [[3.0 * times] * 2] * 2, 0)

    # features that need small steps, a head that needs large ones
    w2 = nn.Parameter(mg.ones(3))
    w2.grad = mg.ones(3)
    optimizer.add_param_group({"params": w2, "lr": 1e-4})
    close("groups", len(optimizer.param_groups), 2)
    close("their lr", [group["lr"] for group in optimizer.param_groups], [0.1, 1e-4], 0)
    true("what a group lacks is the default", optimizer.param_groups[1]["momentum"] == optimizer.defaults["momentum"])
    optimizer.step()
    close("w2 after a step", w2, [0.9999] * 3, 1e-7)

    if options.plot:
        with drawing(options.plot) as axes:
            for i, lr in enumerate((0.0, 0.1, 1.0)):
                axes.bar([k + 0.25 * (i - 1) for k in range(4)], step(lr).flatten(), 0.23, label=f"lr {lr:g}")
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set(ylabel="weight", xticks=range(4), xticklabels=["w[0, 0]", "w[0, 1]", "w[1, 0]", "w[1, 1]"])
            axes.legend()


if __name__ == "__main__":
    main()
