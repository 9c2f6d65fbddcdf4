"""The first network of every course: Linear(10, 5), ReLU, Linear(5, 2); train it, save it, load it.

python examples/starter_network.py [--device NAME] [--plot FILE.png]

The weights are set rather than drawn, so that PyTorch's losses for the same weights can stand here: they agree.
"""

import tempfile
from pathlib import Path

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset

LOSSES = {  # PyTorch's, of the last batch of each epoch
    0.01: "1.764640 1.552971 1.375764 1.228585 1.106253 1.003811 0.917009 0.842435 0.777457 0.720104",
    0.1: "1.253042 0.5928183 0.3006708 0.1908173 0.1398209 0.1068626 0.08479130 0.06963249 0.05878841 0.05072062",
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 5)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(5, 2)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(x)))


def train(lr):
    """(model, losses)"""
    model = Net()
    with mg.no_grad():
        for p in model.parameters():
            p.copy_(mg.arange(p.numel(), dtype=mg.float32).sin().reshape(p.shape))
    x = mg.arange(80, dtype=mg.float32).cos().reshape(8, 10)
    loader = DataLoader(TensorDataset(x, mg.tensor([0, 1, 0, 1, 1, 0, 1, 0])), batch_size=4)
    criterion, optimizer, losses = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=lr), []
    for epoch in range(10):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        print(f"lr {lr}, epoch {epoch}, loss {losses[-1]:.6f}")
    return model, losses


def main():
    options = arguments(__doc__)
    runs = {lr: train(lr) for lr in LOSSES}
    for lr, expected in LOSSES.items():
        ratios = [got / float(torch) for got, torch in zip(runs[lr][1], expected.split())]
        close(f"lr {lr}: losses / PyTorch's losses", ratios, [1.0] * 10, 1e-6)

    model = runs[0.1][0]
    keys = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    true(f"keys {', '.join(keys)}", list(model.state_dict()) == keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        mg.save(model.state_dict(), path)
        loaded = Net()
        loaded.load_state_dict(mg.load(path))
    true("the loaded model gives the same bits", mg.equal(model(mg.ones(10)), loaded(mg.ones(10))))

    if options.plot:
        with drawing(options.plot) as axes:
            for lr, (_, losses) in runs.items():
                axes.plot(range(1, 11), losses, label=f"lr {lr}")
            axes.set(xlabel="epoch", ylabel="cross-entropy of the last batch")
            axes.legend()


if __name__ == "__main__":
    main()
