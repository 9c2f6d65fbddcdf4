"""A whole training run, data loading included: 8,000 MNIST images, 784-128-10, batch 64, 10 epochs; one script each.

python benchmarks/mnist.py --data DIR     (t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz)
"""

import argparse
import gzip
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import clean_environment, write

clean_environment()


def read(folder):
    import numpy as np

    with gzip.open(Path(folder) / "t10k-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(Path(folder) / "t10k-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    return (images / 255).astype("f4"), labels.astype("i8")


def train(name, folder, optimizer, seed):
    """Train in this process; print seconds (after the imports) and test accuracy; the same lines for both."""
    if name == "minigrad":
        import minigrad as framework
        from minigrad.utils.data import DataLoader, TensorDataset
    else:
        import torch as framework
        from torch.utils.data import DataLoader, TensorDataset

        framework.set_num_threads(2)
    nn = framework.nn
    x, y = (framework.from_numpy(a) for a in read(folder))
    start = time.perf_counter()
    framework.manual_seed(seed)
    loader = DataLoader(TensorDataset(x[:8000], y[:8000]), batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    criterion = nn.CrossEntropyLoss()
    if optimizer == "adam":
        fused = {"fused": True} if name == "torch" else {}
        optimizer = framework.optim.Adam(model.parameters(), lr=1e-3, **fused)
    else:
        optimizer = framework.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(10):
        for xb, yb in loader:
            optimizer.zero_grad()
            criterion(model(xb), yb).backward()
            optimizer.step()
    with framework.no_grad():
        accuracy = (model(x[8000:]).argmax(1) == y[8000:]).float().mean().item()
    print(time.perf_counter() - start, accuracy)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--one", choices=("minigrad", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--optimizer", default="adam", choices=("adam", "sgd"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=4)
    options = parser.parse_args()
    if options.one:
        return train(options.one, options.data, options.optimizer, options.seed)
    rows = []
    for optimizer in ("adam", "sgd"):
        found = {"minigrad": [], "torch": []}
        for seed in range(options.repeat):
            for name in found:  # in turns
                command = [sys.executable, __file__, "--data", options.data, "--one", name, "--optimizer", optimizer]
                out = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True, check=True).stdout
                found[name].append(tuple(float(v) for v in out.split()))
        seconds = {name: statistics.median(s for s, _ in runs) for name, runs in found.items()}
        hits = {name: [accuracy for _, accuracy in runs] for name, runs in found.items()}
        accuracy = {name: f"{min(some):.4f} to {max(some):.4f}" for name, some in hits.items()}
        ratio = {"torch": round(seconds["torch"] / seconds["minigrad"], 2)}
        rows.append({"work": f"784-128-10, {optimizer}, 10 epochs", "seconds": seconds, "ratio": ratio,
                     "goal": {"torch": 4.5}, "accuracy": accuracy})  # fmt: skip
        print(rows[-1])
    write("mnist", rows)


if __name__ == "__main__":
    main()
