"""One eager training step of five MLPs, beside PyTorch with fused Adam: zero_grad, forward, backward, step."""

import importlib

from harness import Contender, clean_environment, row, take_turns, write

clean_environment()

NETS = [  # sizes, batch, goal
    ([8, 16, 2], 32, 20),
    ([64, 32, 10], 32, 15),
    ([784, 128, 10], 64, 2.3),
    ([784, 256, 128, 10], 128, 2),
    ([784, 512, 512, 10], 256, 2),
]


def make_step(name, sizes, batch, options):
    """The step of an MLP, the same lines for both frameworks."""
    import numpy as np

    framework = importlib.import_module(name)
    framework.set_num_threads(2)
    nn, rng, layers = framework.nn, np.random.default_rng(0), []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for p in model.parameters():
        p.data = framework.from_numpy(rng.standard_normal(tuple(p.shape)).astype("f4") * 0.05)
    criterion = nn.CrossEntropyLoss()
    optimizer = framework.optim.Adam(model.parameters(), lr=1e-3, **options)
    x = framework.from_numpy(rng.standard_normal((batch, sizes[0])).astype("f4"))
    y = framework.from_numpy(rng.integers(0, sizes[-1], batch))

    def step():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def main():
    rows = []
    for sizes, batch, goal in NETS:
        contenders = {
            "minigrad": Contender("make_step", "minigrad", sizes, batch, {}),
            "torch fused": Contender("make_step", "torch", sizes, batch, {"fused": True}),
        }
        ours, theirs = (c.first for c in contenders.values())
        if abs(ours - theirs) > 1e-5 * abs(theirs):
            raise SystemExit(f"{sizes}: the losses differ: {ours}, {theirs}")
        name = "-".join(map(str, sizes)) + f"@{batch}"
        rows.append(row(name, take_turns(contenders), goal=goal))
    write("train_step", rows)


if __name__ == "__main__":
    main()
