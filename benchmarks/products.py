"""The matrix products of a training step alone: what no framework can save, hence the limit of train_step's ratios.

Both frameworks run them at the multiply-add rate of the machine, or nearly so; the table says how near.
"""

import importlib

from harness import Contender, clean_environment, row, take_turns, write

clean_environment()

NETS = [([784, 128, 10], 64), ([784, 256, 128, 10], 128), ([784, 512, 512, 10], 256)]


def make_products(name, sizes, batch):
    """y = x w.T, dw = dy.T x and, but for the first layer, dx = dy w, for every layer."""
    framework = importlib.import_module(name)
    framework.set_num_threads(2)
    layers = [
        (framework.randn(batch, a), framework.randn(b, a), framework.randn(batch, b), i)
        for i, (a, b) in enumerate(zip(sizes, sizes[1:]))
    ]

    def run():
        for x, w, dy, i in layers:
            x @ w.t()
            dy.t() @ x
            if i:
                dy @ w

    return run


def main():
    rows = []
    for sizes, batch in NETS:
        contenders = {name: Contender("make_products", name, sizes, batch) for name in ("minigrad", "torch")}
        found = row("-".join(map(str, sizes)) + f"@{batch}, products only", take_turns(contenders))
        flops = 2 * batch * (3 * sum(a * b for a, b in zip(sizes, sizes[1:])) - sizes[0] * sizes[1])
        found["GFLOP/s"] = {name: round(flops / us / 1e3) for name, us in found["us"].items()}
        print(found["GFLOP/s"])
        rows.append(found)
    write("products", rows)


if __name__ == "__main__":
    main()
