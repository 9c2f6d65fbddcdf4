"""One eager training step of five MLPs, beside PyTorch with fused Adam: zero_grad, forward, backward, step."""

from harness import clean_environment, row, take_turns, write

clean_environment()

import numpy as np  # noqa: E402

NETS = [  # sizes, batch, goal
    ((8, 16, 2), 32, 20),
    ((64, 32, 10), 32, 15),
    ((784, 128, 10), 64, 2.3),
    ((784, 256, 128, 10), 128, 2),
    ((784, 512, 512, 10), 256, 2),
]


def make_step(framework, sizes, x, y, weights, **options):
    """The step of an MLP, the same lines for both frameworks."""
    nn, optim = framework.nn, framework.optim
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for p, w in zip(model.parameters(), weights, strict=True):
        p.data = framework.from_numpy(w.copy())
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=1e-3, **options)
    x, y = framework.from_numpy(x), framework.from_numpy(y)

    def step():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main():
    import torch

    import minigrad

    minigrad.set_num_threads(2)
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    rows = []
    for sizes, batch, goal in NETS:
        x = rng.standard_normal((batch, sizes[0])).astype("f4")
        y = rng.integers(0, sizes[-1], batch)
        shapes = [s for a, b in zip(sizes, sizes[1:], strict=False) for s in ((b, a), (b,))]
        weights = [rng.standard_normal(s).astype("f4") * 0.05 for s in shapes]
        ours = make_step(minigrad, sizes, x, y, weights)
        fused = make_step(torch, sizes, x, y, weights, fused=True)
        first = float(ours()), float(fused())
        if abs(first[0] - first[1]) > 1e-5 * abs(first[1]):
            raise SystemExit(f"{sizes}: the losses differ: {first}")
        for _ in range(20_000_000 // (sizes[0] * sizes[1] * batch) + 50):
            ours()  # past the point where threads are switched on
        name = "-".join(map(str, sizes)) + f"@{batch}"
        rows.append(row(name, take_turns({"minigrad": ours, "torch fused": fused}, 4.0), goal=goal))
    write("train_step", rows)


if __name__ == "__main__":
    main()
