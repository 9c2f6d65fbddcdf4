"""The learning rates of every schedule over 20 steps, as a table and as curves.

python examples/schedules.py [--device NAME] [--plot FILE.png]

The optimizer steps first and then its schedule, once an epoch or, as for OneCycleLR, once a batch.
"""

import minigrad as mg
from _check import arguments, close, drawing
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


def main():
    options = arguments(__doc__)
    table = {name: learning_rates(make) for name, make in SCHEDULES.items()}
    print(f"{'learning rate in %, at step':27}" + "".join(f"{step:4}" for step in range(STEPS)))
    for name, rates in table.items():
        print(f"{name:27}" + "".join(f"{100 * rate:4.0f}" for rate in rates))

    close("StepLR, steps 4 and 5", table["StepLR"][4:6], [1.0, 0.5], 1e-12)
    close("ExponentialLR is 0.85^step", table["ExponentialLR"], [0.85**step for step in range(STEPS)], 1e-12)
    close("CosineAnnealingLR: half-way, at the bottom", table["CosineAnnealingLR"][5:11:5], [0.55, 0.1], 1e-12)
    close("CosineAnnealingWarmRestarts starts again", table["CosineAnnealingWarmRestarts"][5:16:10], [1.0, 1.0], 1e-12)
    close("OneCycleLR is highest at 30 % of the steps", max(table["OneCycleLR"]), table["OneCycleLR"][5], 0)
    close("ReduceLROnPlateau halves after patience=2 epochs", table["ReduceLROnPlateau"][10:12], [1.0, 0.5], 0)

    if options.plot:
        with drawing(options.plot, columns=5, rows=3, size=(2.4, 1.9), sharex=True, sharey=True) as panels:
            for axes, (name, rates) in zip(panels.flat, table.items(), strict=True):
                axes.plot(rates, ".-")
                axes.set_title(name, fontsize=8)
            panels[2, 2].set_xlabel("step")
            panels[1, 0].set_ylabel("learning rate")


if __name__ == "__main__":
    main()
