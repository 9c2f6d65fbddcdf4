"""L-BFGS: quasi-Newton steps from the last gradients, with a strong Wolfe line search."""

from collections import namedtuple

from .._gradmode import enable_grad, no_grad
from ..ops.shape import cat
from .optimizer import Optimizer, one_element

_ARMIJO, _CURVATURE = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions

_Point = namedtuple("_Point", "t f g slope")  # a step size; there: the loss, its gradient, its derivative along d


class LBFGS(Optimizer):
    """L-BFGS: each step minimises the loss by up to ``max_iter`` quasi-Newton iterations.

    d = -H g, where H approximates the inverse Hessian from the last ``history_size`` pairs of steps and gradient
    differences (two-loop recursion); p += t d with t = ``lr`` (``min(1, 1 / |g|_1) lr`` at first), or, with
    ``line_search_fn="strong_wolfe"``, t from a cubic line search that starts there. It stops when the largest |g| is at
    most ``tolerance_grad``, when the step or the loss changes by less than ``tolerance_change``, or after ``max_eval``
    evaluations (``max_iter * 5 // 4`` by default). One parameter group only. ``step(closure)`` needs a closure that
    clears the gradients, computes the loss, calls backward and returns the loss; step returns its first value. If it
    raises, parameters and state are what they were before the step. RuntimeError for another ``line_search_fn``.
    State, of the first parameter: ``func_evals``, ``n_iter`` and, as flat vectors, the history.
    Source: Liu and Nocedal, On the limited memory BFGS method, Mathematical Programming 45, 1989; Nocedal and Wright,
    Numerical Optimization, algorithms 3.5, 3.6 and 7.4.

    >>> import minigrad as mg
    >>> w = mg.tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = mg.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - mg.tensor([1.0, 2.0])) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure)
    tensor(20., grad_fn=<SumBackward0>)
    >>> w
    tensor([1.0000, 2.0000], requires_grad=True)
    """

    def __init__(
        self,
        params,
        lr=1,
        max_iter=20,
        max_eval=None,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        history_size=100,
        line_search_fn=None,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )

    def _check_group(self, group):
        one_element(lr=group["lr"])
        if not group["lr"] >= 0:
            raise ValueError(f"Invalid learning rate: {group['lr']}")
        if self.param_groups:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def _state_like(self, name, p):
        flat = cat([q.detach().reshape(-1)[:0] for q in self.param_groups[0]["params"]])
        return (sum(q.numel() for q in self.param_groups[0]["params"]),), flat.dtype

    @no_grad()
    def step(self, closure):
        """Up to ``max_iter`` iterations; ``closure`` computes the loss and the gradients. The first loss."""
        if not callable(closure):
            raise TypeError(f"LBFGS.step needs a closure that computes the loss, got {type(closure).__name__}")
        group = self.param_groups[0]
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        params = group["params"]
        start = [p.clone() for p in params]
        try:
            loss, state = _minimise(params, enable_grad()(closure), group, self.state.get(params[0], {}))
        except BaseException:
            _put(params, start)
            raise
        self.state[params[0]].update(state)
        return loss


def _minimise(params, closure, group, state):
    """The iterations of one step: (the first loss, the new state)."""
    lr, max_iter, max_eval = float(group["lr"]), group["max_iter"], group["max_eval"]
    tolerance_grad, tolerance_change = group["tolerance_grad"], group["tolerance_change"]
    state = dict(state)  # its tensors are replaced, never written
    state.setdefault("func_evals", 0)
    state.setdefault("n_iter", 0)

    first_loss = closure()
    loss, g = float(first_loss), _flat_gradient(params)
    evals = 1
    optimal = g.abs().max() <= tolerance_grad
    if optimal:
        state["func_evals"] += 1
        return first_loss, state

    d, t, diagonal = state.get("d"), state.get("t"), state.get("H_diag")
    changes, steps = list(state.get("old_dirs") or ()), list(state.get("old_stps") or ())
    inverses = list(state.get("ro") or ())
    last_g, last_loss = state.get("prev_flat_grad"), state.get("prev_loss")
    for iteration in range(1, max_iter + 1):
        state["n_iter"] += 1
        if state["n_iter"] == 1:
            d, diagonal = -g, 1
            changes, steps, inverses = [], [], []
        else:
            y, s = g - last_g, d * t
            ys = y.dot(s)
            if ys > 1e-10:  # curvature: H stays positive definite
                for history, value in ((changes, y), (steps, s), (inverses, 1.0 / ys)):
                    history.append(value)
                    del history[: max(0, len(history) - group["history_size"])]
                diagonal = ys / y.dot(y)
            d, weights = _direction(g, changes, steps, inverses, diagonal)
            state["al"] = weights + [None] * (group["history_size"] - len(weights))
        last_g, last_loss = g, loss

        t = min(1.0, 1.0 / g.abs().sum()) * lr if state["n_iter"] == 1 else lr
        slope = g.dot(d)
        if slope > -tolerance_change:
            break
        used = 0
        if group["line_search_fn"] is not None:
            here = [p.clone() for p in params]

            def evaluate(t, d=d, here=here):
                _move(params, t, d)
                f = float(closure())
                g = _flat_gradient(params)
                _put(params, here)
                return _Point(t, f, g, g.dot(d))

            point = _Point(0, loss, g, slope)
            (t, loss, g, _), used = _line_search(evaluate, point, t, d.abs().max(), tolerance_change, max_eval - evals)
            _move(params, t, d)
            optimal = g.abs().max() <= tolerance_grad
        else:
            _move(params, t, d)
            if iteration != max_iter:  # the loss after the last one is the next step's first
                loss, g = float(closure()), _flat_gradient(params)
                optimal = g.abs().max() <= tolerance_grad
                used = 1
        evals += used
        if evals >= max_eval or optimal:
            break
        if (d * t).abs().max() <= tolerance_change or abs(loss - last_loss) < tolerance_change:
            break

    state["func_evals"] += evals
    state.update(d=d, t=t, old_dirs=changes, old_stps=steps, ro=inverses, H_diag=diagonal)
    state.update(prev_flat_grad=last_g, prev_loss=last_loss)
    return first_loss, state


def _direction(g, changes, steps, inverses, diagonal):
    """-H g by the two-loop recursion, and the weights of its first loop."""
    weights = [None] * len(changes)
    q = -g
    for i in reversed(range(len(changes))):
        weights[i] = steps[i].dot(q) * inverses[i]
        q.add_(changes[i], alpha=-weights[i].item())
    q = q * diagonal
    for i in range(len(changes)):
        q.add_(steps[i], alpha=(weights[i] - changes[i].dot(q) * inverses[i]).item())
    return q, weights


def _flat_gradient(params):
    """All gradients as one new vector; zeros for a parameter without one."""
    for p in params:
        if p.grad is not None and p.grad.shape != p.shape:
            raise RuntimeError(
                f"gradient of shape {tuple(p.grad.shape)} for a parameter of shape {tuple(p.shape)} in LBFGS"
            )
    return cat([(p.new_zeros(p.shape) if p.grad is None else p.grad.detach()).reshape(-1) for p in params])


def _move(params, t, d):
    """p += t d for every parameter."""
    start, t = 0, float(t)
    for p in params:
        p.add_(d[start : start + p.numel()].reshape(p.shape), alpha=t)
        start += p.numel()


def _put(params, values):
    for p, value in zip(params, values, strict=True):
        p.copy_(value)


# --- line search ------------------------------------------------------------------------------------------------------


def _line_search(evaluate, start, t, reach, tolerance, budget):
    """A point that satisfies the strong Wolfe conditions, or the best one found, and the evaluations made.

    reach: the largest |d|; budget: how many more evaluations after the first.
    """

    def too_high(point):
        return point.f > start.f + _ARMIJO * point.t * start.slope

    def flat(point):
        return abs(point.slope) <= -_CURVATURE * start.slope

    # bracket: step outwards until an interval contains such a point
    previous, point = start, evaluate(t)
    tried, done = 0, False
    while tried < budget:
        if too_high(point) or (tried > 1 and point.f >= previous.f):
            bracket = [previous, point]
            break
        if flat(point):
            bracket, done = [point], True
            break
        if point.slope >= 0:
            bracket = [previous, point]
            break
        bounds = point.t + 0.01 * (point.t - previous.t), point.t * 10
        previous, point = point, evaluate(_minimum(previous, point, bounds))
        tried += 1
    else:
        bracket = [start, point]

    # zoom: shrink the interval around it
    low, high = (0, 1) if bracket[0].f <= bracket[-1].f else (1, 0)
    slow = False
    while not done and tried < budget:
        a, b = bracket
        if abs(b.t - a.t) * reach < tolerance:
            break
        t = _minimum(a, b)
        left, right = min(a.t, b.t), max(a.t, b.t)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if slow or t >= right or t <= left:  # a second time, or at the edge: a tenth inside
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                slow = False
            else:
                slow = True
        else:
            slow = False
        point = evaluate(t)
        tried += 1
        if too_high(point) or point.f >= bracket[low].f:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
        else:
            if flat(point):
                done = True
            elif point.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    return bracket[low], tried + 1


def _minimum(a, b, bounds=None):
    """Where the cubic through two points with their slopes is least, within bounds (by default the two points)."""
    if a.t > b.t:
        a, b = b, a
    low, high = bounds or (a.t, b.t)
    if a.t == b.t:
        return (low + high) / 2.0
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = square.sqrt()
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)), low), high)
