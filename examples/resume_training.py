"""Stop and resume: ten steps, a checkpoint and ten more give the bits of twenty, if the optimizer's state is saved too.

python examples/resume_training.py [--device NAME] [--plot FILE.png]
"""

import tempfile
from pathlib import Path

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn, optim

START = [[0.6614, 0.2669], [0.0617, 0.6213]]
OPTIMIZERS = {"SGD": lambda w: optim.SGD([w], lr=0.1, momentum=0.9), "Adam": lambda w: optim.Adam([w], lr=0.1)}


def steps(w, optimizer, n=10):
    """Take n steps down the bowl sum(w²); the path of w[0, 0]."""
    path = []
    for _ in range(n):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
        path.append(w[0, 0].item())
    return path


def resumed(make, file, with_state):
    """w after ten steps, a checkpoint and ten more; with a new optimizer that has its state or has not."""
    w = nn.Parameter(mg.tensor(START))
    optimizer = make(w)
    path = steps(w, optimizer)
    mg.save({"w": w.detach(), "optimizer": optimizer.state_dict()}, file)

    saved = mg.load(file, mg.get_default_device())
    w = nn.Parameter(saved["w"])
    optimizer = make(w)
    if with_state:
        optimizer.load_state_dict(saved["optimizer"])
    return w, path + steps(w, optimizer)


def main():
    options = arguments(__doc__)
    w = nn.Parameter(mg.tensor(START))
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    true("no state at first", optimizer.state_dict()["state"] == {})
    true("parameters by number", optimizer.state_dict()["param_groups"][0]["params"] == [0])
    w.grad = mg.ones(2, 2)
    for _ in range(10):
        optimizer.step()
    buffer = optimizer.state_dict()["state"][0]["momentum_buffer"]
    close("momentum after 10 gradients of 1", buffer, [[(1 - 0.9**10) / 0.1] * 2] * 2, 1e-5)  # 6.5132
    close("w", w, [[-3.4768, -3.8712], [-4.0764, -3.5168]], 1e-4)

    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, make in OPTIMIZERS.items():
            straight = nn.Parameter(mg.tensor(START))
            paths["20 steps"] = steps(straight, make(straight), 20)
            for label, with_state in (("resumed with state", True), ("resumed without", False)):
                w, paths[label] = resumed(make, Path(folder, "checkpoint.safetensors"), with_state)
                what = "the same bits" if with_state else "another w"
                true(f"{name}, {label}: {what}", mg.equal(w, straight) == with_state)

    if options.plot:
        with drawing(options.plot) as axes:
            for (label, path), style in zip(paths.items(), ("-", "o", ":")):
                axes.plot(range(1, 21), path, style, label=label)
            axes.axvline(10.5, color="gray", linewidth=0.8)
            axes.set(xlabel="step", ylabel="w[0, 0]", title="Adam, saved and loaded after step 10")
            axes.legend()


if __name__ == "__main__":
    main()
