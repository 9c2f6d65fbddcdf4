"""Descent on y = 4x² from x = 2: a learning rate that explodes, one that crawls, and the best one.

python examples/learning_rates.py [--device NAME] [--plot FILE.png]

A step multiplies x by 1 - 8 lr, so it contracts below lr = 0.25 and is exact at 0.125. "0.136 is the fastest of ten
learning rates from 0.01 to 0.2", as a course reads off its plot, is wrong: 0.1156 is, by 0.0756 a step against 0.0933.
"""

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import optim


def descend(lr, steps):
    """(x, y) before each step."""
    x = mg.tensor(2.0, requires_grad=True)
    optimizer = optim.SGD([x], lr=lr)
    xs, ys = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        y = 4 * x**2
        y.backward()
        xs.append(x.item())
        ys.append(y.item())
        optimizer.step()
    return xs, ys


def main():
    options = arguments(__doc__)
    xs, ys = descend(1.0, 5)
    close("lr 1: x", xs, [2.0, -14, 98, -686, 4802], 0)
    close("lr 1: y", ys[:4], [16.0, 784, 38416, 1882384], 0)

    slow = [16.0, 13.5424, 11.4623, 9.7017, 8.2115, 6.9502, 5.8827, 4.9791, 4.2143, 3.5670]
    xs, ys = descend(0.01, 10)
    close("lr 0.01: y", ys, slow, 1e-4)
    close("lr 0.01: x shrinks by", xs[1] / xs[0], 0.92, 1e-6)

    rates = mg.linspace(0.01, 0.2, 10).tolist()
    runs = {lr: descend(lr, 100) for lr in rates}
    factors = {lr: abs(xs[1] / xs[0]) for lr, (xs, _) in runs.items()}
    close("ten learning rates", rates, [0.01 + 0.19 / 9 * i for i in range(10)], 1e-6)
    close("each shrinks |x| by", list(factors.values()), [abs(1 - 8 * lr) for lr in rates], 1e-6)
    first, second = sorted(factors, key=factors.get)[:2]
    close("the fastest, and its factor", [first, factors[first]], [0.1156, 0.0756])
    close("the next, and its factor", [second, factors[second]], [0.1367, 0.0933])
    below = {lr: next(i for i, y in enumerate(runs[lr][1]) if y < 1e-12) for lr in (first, second)}
    true(f"y < 1e-12 after {below[first]} steps, not {below[second]}", below[first] < below[second])
    close("lr 0.125: x after one step", descend(0.125, 2)[0][1], 0.0, 0)

    if options.plot:
        with drawing(options.plot, columns=2) as (left, right):
            for lr in (0.01, 0.125, 0.2, 0.26):
                left.plot(descend(lr, 20)[0], label=f"lr {lr}")
            left.set(xlabel="step", ylabel="x", ylim=(-6, 6))
            left.legend(ncols=2, loc="lower left")
            for lr, (_, ys) in runs.items():
                shown = [y for y in ys if y > 1e-12]
                right.plot(shown, label=f"{lr:.4f}", linewidth=2.5 if lr == first else 1)
            right.set(xlabel="step", ylabel="y", yscale="log", xlim=(-1, 50))
            right.legend(ncols=2, title="lr", fontsize="small")


if __name__ == "__main__":
    main()
