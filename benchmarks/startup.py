"""Process start to the end of the first training step (784-128-10@64), with a warm kernel cache, beside PyTorch."""

import statistics
import subprocess
import sys
import time

from harness import clean_environment, write

clean_environment()

SCRIPT = """
import {name} as framework
nn = framework.nn
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = framework.optim.Adam(model.parameters())
x, y = framework.randn(64, 784), framework.randint(0, 10, (64,))
optimizer.zero_grad()
nn.functional.cross_entropy(model(x), y).backward()
optimizer.step()
"""


def main():
    times = {"minigrad": [], "torch": []}
    for _ in range(12):
        for name, found in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", SCRIPT.format(name=name)], check=True)
            found.append(time.perf_counter() - start)
    seconds = {name: round(statistics.median(found[2:]), 3) for name, found in times.items()}
    ratio = round(seconds["torch"] / seconds["minigrad"], 2)
    print(f"first step after {seconds} s; torch/minigrad {ratio} (goal: 1.67)")
    write("startup", [{"work": "process start to first step, warm", "seconds": seconds, "ratio": ratio, "goal": 1.67}])


if __name__ == "__main__":
    main()
