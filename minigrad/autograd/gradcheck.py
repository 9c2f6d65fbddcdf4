"""Gradients against finite differences.

DESIGN
a. Slow mode compares whole Jacobians: one backward per element of the output, two forwards per element of the input.
   Fast mode compares one number, ``v . J u`` for random positive ``u`` and ``v``: two forwards and one backward
   however large the tensors are; it finds nearly all mistakes but cannot say where they are, so on failure the slow
   mode runs for its message.
b. Inputs are perturbed in place through NumPy (unseen by the version counter) and restored; backward runs first.
c. Everything is float64 NumPy outside ``func``; random numbers come from a generator of their own.
"""

import warnings

from .._engine import Tensor, write_memory
from .._storage import float64
from ..creation import from_numpy, tensor
from ..ops._late import np
from .differentiate import grad


class GradcheckError(RuntimeError):
    """A gradient that does not agree with finite differences."""


def gradcheck(
    func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0, check_undefined_grad=True,
    check_grad_dtypes=False, check_batched_grad=False, check_batched_forward_grad=False, check_forward_ad=False,
    check_backward_ad=True, fast_mode=False, masked=None,
):  # fmt: skip
    """Check the gradients of ``func`` against central differences: True, or GradcheckError.

    ``func``: takes ``inputs``, returns a tensor or a tuple of tensors, and is deterministic.
    ``inputs``: a tensor or a tuple; those that require grad are checked and should be float64 (a warning otherwise,
    and a likely failure), without overlapping memory.
    ``eps``: the step, ``(f(x + eps) - f(x - eps)) / (2 eps)``.
    ``atol``, ``rtol``: Jacobians agree where ``|analytical - numerical| <= atol + rtol * |numerical|``.
    ``raise_exception``: False to return False on failure instead.
    ``nondet_tol``: how much two runs of the same backward may differ.
    ``check_undefined_grad``: also differentiate a weighted sum of all outputs, so that each output's gradient has
    been given both with and without those of the others.
    ``check_grad_dtypes``: gradients must have the dtype of their inputs.
    ``fast_mode``: compare one random projection of each Jacobian.
    Forward mode and batched gradients do not exist here: asking for them raises NotImplementedError; ``masked`` has
    no effect (there are no sparse tensors).

    >>> import minigrad as mg
    >>> x = mg.tensor([0.5, 1.5], dtype=mg.float64, requires_grad=True)
    >>> mg.autograd.gradcheck(lambda x: x.exp() * x, x)
    True
    """
    _refuse(check_batched_grad, check_batched_forward_grad, check_forward_ad)
    if not check_backward_ad:
        raise ValueError("gradcheck: check_backward_ad=False leaves nothing to check")
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = _checked_inputs(inputs)
    try:
        _check(func, inputs, checked, eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
    raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False, check_batched_grad=False,
    check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False, masked=False,
):  # fmt: skip
    """Check the second derivatives of ``func``: ``gradcheck`` of its gradient as a function of inputs and upstream.

    ``grad_outputs``: the upstream gradients, one per differentiable output; random by default, and not contiguous if
    ``gen_non_contig_grad_outputs``. The rest as in ``gradcheck``.

    >>> import minigrad as mg
    >>> x = mg.tensor([0.5, 1.5], dtype=mg.float64, requires_grad=True)
    >>> mg.autograd.gradgradcheck(lambda x: x.exp() * x, x)
    True
    """
    _refuse(check_batched_grad, False, check_fwd_over_rev)
    if not check_rev_over_rev:
        raise ValueError("gradgradcheck: check_rev_over_rev=False leaves nothing to check")
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = _checked_inputs(inputs)
    if grad_outputs is None:
        random = np.random.default_rng(0)
        grad_outputs = tuple(
            _upstream(random.standard_normal(tuple(y.shape)), y, gen_non_contig_grad_outputs)
            for _, y in _outputs(func, inputs)
        )
    else:
        grad_outputs = (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    n = len(inputs)

    def gradient(*args):
        outputs = tuple([y for _, y in _outputs(func, args[:n])])
        wanted = tuple([args[i] for i in checked])
        found = grad(outputs, wanted, args[n:], create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(
        gradient, inputs + grad_outputs, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )  # fmt: skip


def _refuse(batched, batched_forward, forward):
    if batched or batched_forward:
        raise NotImplementedError("gradcheck: batched gradients need vmap, which minigrad does not have")
    if forward:
        raise NotImplementedError("gradcheck: minigrad has no forward mode differentiation")


def _upstream(values, y, strided):
    if strided and values.ndim:
        return _like(np.repeat(values, 2, -1), y)[..., ::2].detach().requires_grad_()
    return _like(values, y).requires_grad_()


def _like(values, y):
    """``values`` as a tensor of the dtype and on the device of ``y``."""
    return tensor(values, dtype=y.dtype, device=y.device)


def _show(x, memory):
    """Give ``x`` the values of ``memory``, unless that is its own; nobody counts it as an edit."""
    if x._device >= 0:
        write_memory(x.detach(), from_numpy(memory))


def _checked_inputs(inputs):
    """Which inputs require grad."""
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )
    for i in checked:
        if inputs[i].dtype is not float64:
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point. This check will likely "
                "fail if all the inputs are not of double precision floating point.",
                stacklevel=3,
            )
        if any(stride == 0 and size > 1 for stride, size in zip(inputs[i].stride(), inputs[i].shape, strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                "non-overlapping to be able to compute the numerical gradients correctly. You should call .contiguous "
                "on the input before passing it to gradcheck."
            )
    return checked


def _outputs(func, inputs):
    """The outputs of ``func`` that require grad, with their positions."""
    result = func(*inputs)
    result = (result,) if isinstance(result, Tensor) else tuple(result)
    return [(k, y) for k, y in enumerate(result) if isinstance(y, Tensor) and y.requires_grad]


def _values(func, inputs, which=None):
    """The floating-point outputs (or those at ``which``) as flat float64 arrays."""
    result = func(*inputs)
    result = (result,) if isinstance(result, Tensor) else tuple(result)
    if which is None:
        which = [k for k, y in enumerate(result) if isinstance(y, Tensor) and y.is_floating_point()]
    return [np.array(result[k].numpy(force=True), np.float64).reshape(-1) for k in which]


def _check(func, inputs, checked, eps, atol, rtol, nondet_tol, undefined, dtypes, fast):
    outputs = _outputs(func, inputs)
    if not outputs:
        for i in checked:
            for k, slope in enumerate(_numerical(func, inputs, inputs[i], eps, None)):
                if slope.size and np.abs(slope).max() > atol:
                    raise GradcheckError(
                        f"Numerical gradient for function expected to be zero: output {k} does not require grad but "
                        f"depends on input {i}"
                    )
        return
    if fast and _fast(func, inputs, checked, outputs, eps, atol, rtol):
        return
    which = [k for k, _ in outputs]
    analytical = [_analytical(y, inputs, checked, nondet_tol, dtypes, k) for k, y in outputs]
    if undefined and len(outputs) > 1:
        _check_together(inputs, checked, outputs, analytical, atol, rtol)
    for column, i in enumerate(checked):
        numerical = _numerical(func, inputs, inputs[i], eps, which)
        for row, k in enumerate(which):
            a, n = analytical[row][column], numerical[row]
            if not np.allclose(a, n, rtol, atol):
                raise GradcheckError(_mismatch(k, i, n, a, atol, rtol))


def _mismatch(k, i, numerical, analytical, atol, rtol):
    excess = np.abs(analytical - numerical) - (atol + rtol * np.abs(numerical))
    at = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    return (
        f"Jacobian mismatch for output {k} with respect to input {i},\n"
        f"numerical:{numerical}\nanalytical:{analytical}\n"
        f"(rows: elements of the input, columns: of the output); worst at [{at[0]}, {at[1]}]: numerical "
        f"{numerical[at]:.10g}, analytical {analytical[at]:.10g}, {np.sum(~(excess <= 0))} of {excess.size} differ"
    )


def _numerical(func, inputs, x, eps, which):
    """For each output the Jacobian (elements of x, elements of the output) by central differences."""
    memory = x.numpy(force=True)
    if not memory.flags.writeable:
        raise RuntimeError("gradcheck perturbs its inputs in place: this one shares read-only memory, clone() it")
    slopes = []
    for at in np.ndindex(memory.shape):
        value = memory[at].item()
        try:
            memory[at] = value + eps
            _show(x, memory)
            above = _values(func, inputs, which)
            memory[at] = value - eps
            _show(x, memory)
            below = _values(func, inputs, which)
        finally:
            memory[at] = value
            _show(x, memory)
        slopes.append([(p - m) / (2 * eps) for p, m in zip(above, below, strict=True)])
    if not slopes:
        return [np.zeros((0, y.size)) for y in _values(func, inputs, which)]
    return [np.stack(column) for column in zip(*slopes, strict=True)]


def _analytical(y, inputs, checked, nondet_tol, dtypes, k):
    """For each checked input the Jacobian (its elements, elements of y) by backward."""
    wanted = [inputs[i] for i in checked]
    jacobians = [np.zeros((x.numel(), y.numel())) for x in wanted]
    for j in range(y.numel()):
        start = np.zeros(y.numel())
        start[j] = 1
        start = _like(start.reshape(tuple(y.shape)), y)
        rows = []
        for _ in range(2):
            found = grad(y, wanted, start, retain_graph=True, allow_unused=True)
            rows.append([_flat(g, x, i, dtypes) for g, x, i in zip(found, wanted, checked, strict=True)])
        for column, (one, two) in enumerate(zip(*rows, strict=True)):
            if not np.allclose(one, two, 0, nondet_tol, equal_nan=True):
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                    f"gives different values (output {k}, input {checked[column]}). The tolerance for nondeterminism "
                    f"was {nondet_tol}."
                )
            jacobians[column][:, j] = one
    return jacobians


def _flat(g, x, i, dtypes):
    """Gradient ``g`` of input ``x`` as a flat float64 array; zeros for None."""
    if g is None:
        return np.zeros(x.numel())
    if tuple(g.shape) != tuple(x.shape):
        raise GradcheckError(f"grad has shape {tuple(g.shape)} but input {i} has shape {tuple(x.shape)}")
    if dtypes and g.dtype is not x.dtype:
        raise GradcheckError(f"grad has dtype {g.dtype!r} but input {i} has dtype {x.dtype!r}")
    return np.array(g.numpy(force=True), np.float64).reshape(-1)


def _check_together(inputs, checked, outputs, analytical, atol, rtol):
    """The gradient of a weighted sum of all outputs is the weighted sum of their gradients."""
    random = np.random.default_rng(1)
    weights = [random.standard_normal(y.numel()) for _, y in outputs]
    wanted = [inputs[i] for i in checked]
    starts = [_like(w.reshape(tuple(y.shape)), y) for w, (_, y) in zip(weights, outputs, strict=True)]
    found = grad([y for _, y in outputs], wanted, starts, retain_graph=True, allow_unused=True)
    for column, (g, x, i) in enumerate(zip(found, wanted, checked, strict=True)):
        expected = sum(jacobians[column] @ w for jacobians, w in zip(analytical, weights, strict=True))
        if not np.allclose(_flat(g, x, i, False), expected, rtol, atol, equal_nan=True):
            raise GradcheckError(
                f"The gradient of input {i} through all outputs at once, {_flat(g, x, i, False)}, is not the sum of "
                f"its gradients through one at a time, {expected}"
            )


def _fast(func, inputs, checked, outputs, eps, atol, rtol):
    """Whether a random projection of each Jacobian agrees."""
    random = np.random.default_rng(2)
    which = [k for k, _ in outputs]
    for i in checked:
        x = inputs[i]
        memory = x.numpy(force=True)
        if not memory.size:
            continue
        u = random.uniform(0.1, 1, memory.shape)
        u /= np.sqrt((u * u).sum())
        vs = [random.uniform(0.1, 1, tuple(y.shape)) for _, y in outputs]
        projections = []
        for v, (_, y) in zip(vs, outputs, strict=True):
            (g,) = grad(y, x, _like(v, y), retain_graph=True, allow_unused=True)
            projections.append((_flat(g, x, i, False) * u.reshape(-1)).sum())
        values = memory.copy()
        try:
            memory[...] = values + eps * u
            _show(x, memory)
            above = _values(func, inputs, which)
            memory[...] = values - eps * u
            _show(x, memory)
            below = _values(func, inputs, which)
        finally:
            memory[...] = values
            _show(x, memory)
        for a, v, p, m in zip(projections, vs, above, below, strict=True):
            n = (v.reshape(-1) * (p - m)).sum() / (2 * eps)
            if not abs(a - n) <= atol * u.sum() * v.sum() + rtol * abs(n):
                return False
    return True
