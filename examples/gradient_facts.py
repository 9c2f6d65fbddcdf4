"""What a gradient tells: the way up or down, not "this is the optimum"; and how depth makes it vanish or explode.

python examples/gradient_facts.py [--device NAME] [--plot FILE.png]

"Gradient zero = optimal solution", as some courses put it, holds for convex functions only. Elsewhere it is a
stationary point: the top of x⁴ - 2x², or the terrace of x³, where descent from above stops and below which x³ goes on
for ever.
"""

import math

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import optim


def descend(f, x, lr=0.1, steps=1, maximize=False):
    """(x, f'(x)) after some steps from x."""
    x = mg.tensor(x, requires_grad=True)
    optimizer = optim.SGD([x], lr=lr, maximize=maximize)
    for _ in range(steps):
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
    optimizer.zero_grad()
    f(x).backward()
    return x.item(), x.grad.item()


def slope(layer, depth):
    """The derivative at 0.5 of ``depth`` layers, one behind the other."""
    x = y = mg.tensor(0.5, requires_grad=True)
    for _ in range(depth):
        y = layer(y)
    y.backward()
    return x.grad.item()


def main():
    options = arguments(__doc__)
    x = mg.Tensor([[1, 2], [3, 4]])
    x.requires_grad = True
    (x**2).sum().backward()
    close("gradient of sum(x²): 2x", x.grad, [[2.0, 4], [6, 8]], 0)

    for name, sign in (("ascent", 1), ("descent", -1)):
        path = [descend(lambda x: x, 1.0, steps=n, maximize=sign > 0)[0] for n in range(3)]
        close(f"{name} along a gradient of 1, lr 0.1", path, [1.0, 1 + 0.1 * sign, 1 + 0.2 * sign], 1e-6)

    def hill(x):
        return x**4 - 2 * x**2

    close("x⁴ - 2x² at 0: gradient 0 at a maximum", descend(hill, 0.0, steps=100), [0.0, 0.0], 0)
    close("from 0.01 descent finds the minimum -1", hill(mg.tensor(descend(hill, 0.01, steps=100)[0])), -1.0, 1e-6)
    x, gradient = descend(lambda x: x**3, 1.0, steps=1000)
    close("x³ from 1: descent stops at 0, gradient 0", [x, gradient], [0.0, 0.0], 0.01)
    true("though x³ is lower at -1", x**3 > (-1) ** 3)

    s, product = 0.5, 1.0
    for _ in range(10):
        s = 1 / (1 + math.exp(-s))
        product *= s * (1 - s)
    close("gradient through 10 sigmoids, / product of s(1 - s)", slope(mg.sigmoid, 10) / product, 1.0, 1e-5)
    true(f"it vanishes: {product:.2g}, less than 0.25^10", product < 0.25**10)
    close("through 10 layers y = 2x: explodes", slope(lambda x: 2 * x, 10), 1024.0, 0)
    close("through 10 layers y = relu(x)", slope(mg.relu, 10), 1.0, 0)

    if options.plot:
        depths = range(1, 21)
        with drawing(options.plot) as axes:
            for name, layer in {"2x": lambda x: 2 * x, "relu": mg.relu, "tanh": mg.tanh, "sigmoid": mg.sigmoid}.items():
                axes.plot(depths, [slope(layer, n) for n in depths], label=name)
            axes.set(xlabel="layers", ylabel="gradient at 0.5", yscale="log", xticks=range(0, 21, 5))
            axes.legend()


if __name__ == "__main__":
    main()
