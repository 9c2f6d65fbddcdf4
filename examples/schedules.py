"""The learning rates of every schedule over 20 steps, as a table and as curves.

python examples/schedules.py --plot schedules.png
"""

import argparse
import math
from pathlib import Path

import minigrad as mg
from minigrad.optim import SGD
from minigrad.optim import lr_scheduler as schedules

STEPS = 20
LOSSES = [1 / (1 + min(step, 7)) for step in range(STEPS)]  # for ReduceLROnPlateau: no progress after step 7
SCHEDULES = {
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda step: 0.8 if step % 2 else 1),
    "StepLR": lambda o: schedules.StepLR(o, step_size=5, gamma=0.5),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, milestones=[4, 14], gamma=0.3),
    "ConstantLR": lambda o: schedules.ConstantLR(o, factor=0.4, total_iters=6),
    "LinearLR": lambda o: schedules.LinearLR(o, start_factor=0.1, total_iters=10),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, gamma=0.85),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, total_iters=15, power=2),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, T_max=10, eta_min=0.1),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2),
    "CyclicLR": lambda o: schedules.CyclicLR(o, base_lr=0.2, max_lr=1.0, step_size_up=4, mode="triangular2"),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, max_lr=1.0, total_steps=STEPS),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.2, total_iters=5), schedules.CosineAnnealingLR(o, T_max=15)], milestones=[5]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 9), schedules.ExponentialLR(o, 0.9)]),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, factor=0.5, patience=2),
}


def learning_rates(make):
    """What a schedule sets in each step of a training loop whose optimizer starts with lr=1."""
    optimizer = SGD([mg.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler, rates = make(optimizer), []
    for loss in LOSSES:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()  # first, then the schedule
        scheduler.step(*[loss] * isinstance(scheduler, schedules.ReduceLROnPlateau))
    return rates


def plot(path, table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, (name, rates) in zip(figure.subplots(3, 5, sharex=True, sharey=True).flat, table.items(), strict=True):
        axes.plot(rates, ".-")
        axes.set_title(name, fontsize=9)
    figure.savefig(path, dpi=150, format=Path(path).suffix.lstrip(".") or "png")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="schedules.py", description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE", help="draw them, as an image such as schedules.png")
    path = parser.parse_args(arguments).plot
    table = {name: learning_rates(make) for name, make in SCHEDULES.items()}
    assert table["StepLR"][4:6] == [1.0, 0.5] and table["LambdaLR"][4] == 0.2
    assert table["CosineAnnealingWarmRestarts"][5] == table["OneCycleLR"][5] == 1.0
    assert math.isclose(table["CosineAnnealingLR"][10], 0.1) and math.isclose(table["SequentialLR"][5], 1.0)
    try:
        if path:
            plot(path, table)
    except ImportError:
        parser.error("--plot needs matplotlib: pip install 'minigrad-engine[plot]'")
    except (OSError, ValueError) as error:
        parser.error(f"--plot: {path} cannot be written: {error}")
    print(f"{'learning rate in %, at step':27}" + "".join(f"{step:4}" for step in range(STEPS)))
    for name, rates in table.items():
        print(f"{name:27}" + "".join(f"{100 * rate:4.0f}" for rate in rates))


if __name__ == "__main__":
    main()
