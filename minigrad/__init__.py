"""PyTorch's API for small and middle-sized networks on a CPU."""

# First, because it plugs the operations into the engine, and because the function `tensor` takes its name below.
from .tensor import clone as clone
from .tensor import is_floating_point as is_floating_point
from .tensor import is_tensor as is_tensor
from .tensor import numel as numel

# isort: split
from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi

from . import autograd as autograd
from . import cuda as cuda  # at once: a module with __getattr__ would make each access to a name in it slower
from . import data as data
from . import memory as memory
from . import nn as nn
from . import optim as optim
from . import random as random
from . import utils as utils
from ._engine import Tensor as Tensor
from ._engine import get_default_dtype as get_default_dtype
from ._engine import result_type as result_type
from ._engine import set_default_dtype as set_default_dtype
from ._gradmode import enable_grad as enable_grad
from ._gradmode import is_grad_enabled as is_grad_enabled
from ._gradmode import no_grad as no_grad
from ._gradmode import set_grad_enabled as set_grad_enabled
from ._launch import get_num_threads as get_num_threads
from ._launch import set_num_threads as set_num_threads
from ._launch import start_threads as start_threads
from ._storage import bool_ as bool_
from ._storage import dtype as dtype
from ._storage import float32 as float32
from ._storage import float64 as float64
from ._storage import int8 as int8
from ._storage import int16 as int16
from ._storage import int32 as int32
from ._storage import int64 as int64
from ._storage import uint8 as uint8
from .autograd import inference_mode as inference_mode
from .compile import compile as compile
from .creation import arange as arange
from .creation import as_tensor as as_tensor
from .creation import empty as empty
from .creation import empty_like as empty_like
from .creation import eye as eye
from .creation import from_dlpack as from_dlpack
from .creation import from_numpy as from_numpy
from .creation import full as full
from .creation import full_like as full_like
from .creation import linspace as linspace
from .creation import ones as ones
from .creation import ones_like as ones_like
from .creation import tensor as tensor
from .creation import zeros as zeros
from .creation import zeros_like as zeros_like
from .device import device as device
from .device import get_default_device as get_default_device
from .device import set_default_device as set_default_device
from .ops.arithmetic import add as add
from .ops.arithmetic import addcdiv as addcdiv
from .ops.arithmetic import addcmul as addcmul
from .ops.arithmetic import div as div
from .ops.arithmetic import lerp as lerp
from .ops.arithmetic import sub as sub
from .ops.comparison import allclose as allclose
from .ops.comparison import equal as equal
from .ops.comparison import isclose as isclose
from .ops.composed import bincount as bincount
from .ops.composed import cdist as cdist
from .ops.composed import clamp_max as clamp_max
from .ops.composed import clamp_min as clamp_min
from .ops.composed import meshgrid as meshgrid
from .ops.composed import nan_to_num as nan_to_num
from .ops.composed import nanmean as nanmean
from .ops.composed import nansum as nansum
from .ops.composed import repeat_interleave as repeat_interleave
from .ops.composed import roll as roll
from .ops.composed import std_mean as std_mean
from .ops.composed import trace as trace
from .ops.composed import var_mean as var_mean
from .ops.indexing import argwhere as argwhere
from .ops.indexing import diag as diag
from .ops.indexing import diag_embed as diag_embed
from .ops.indexing import gather as gather
from .ops.indexing import index_add as index_add
from .ops.indexing import index_copy as index_copy
from .ops.indexing import index_fill as index_fill
from .ops.indexing import index_put as index_put
from .ops.indexing import index_select as index_select
from .ops.indexing import masked_fill as masked_fill
from .ops.indexing import masked_select as masked_select
from .ops.indexing import nonzero as nonzero
from .ops.indexing import scatter as scatter
from .ops.indexing import scatter_add as scatter_add
from .ops.indexing import take as take
from .ops.indexing import take_along_dim as take_along_dim
from .ops.indexing import tril as tril
from .ops.indexing import triu as triu
from .ops.indexing import where as where
from .ops.linalg import addmm as addmm
from .ops.linalg import bmm as bmm
from .ops.linalg import dot as dot
from .ops.linalg import matmul as matmul
from .ops.linalg import mm as mm
from .ops.linalg import mv as mv
from .ops.linalg import outer as outer
from .ops.memory_format import channels_last as channels_last
from .ops.memory_format import channels_last_3d as channels_last_3d
from .ops.memory_format import contiguous_format as contiguous_format
from .ops.memory_format import memory_format as memory_format
from .ops.memory_format import preserve_format as preserve_format
from .ops.pointwise import abs as abs
from .ops.pointwise import bitwise_and as bitwise_and
from .ops.pointwise import bitwise_not as bitwise_not
from .ops.pointwise import bitwise_or as bitwise_or
from .ops.pointwise import bitwise_xor as bitwise_xor
from .ops.pointwise import ceil as ceil
from .ops.pointwise import clamp as clamp
from .ops.pointwise import cos as cos
from .ops.pointwise import eq as eq
from .ops.pointwise import erf as erf
from .ops.pointwise import exp as exp
from .ops.pointwise import expm1 as expm1
from .ops.pointwise import floor as floor
from .ops.pointwise import floor_divide as floor_divide
from .ops.pointwise import ge as ge
from .ops.pointwise import gt as gt
from .ops.pointwise import isfinite as isfinite
from .ops.pointwise import isinf as isinf
from .ops.pointwise import isnan as isnan
from .ops.pointwise import le as le
from .ops.pointwise import log as log
from .ops.pointwise import log1p as log1p
from .ops.pointwise import logical_and as logical_and
from .ops.pointwise import logical_not as logical_not
from .ops.pointwise import logical_or as logical_or
from .ops.pointwise import logical_xor as logical_xor
from .ops.pointwise import lt as lt
from .ops.pointwise import maximum as maximum
from .ops.pointwise import minimum as minimum
from .ops.pointwise import mul as mul
from .ops.pointwise import ne as ne
from .ops.pointwise import neg as neg
from .ops.pointwise import pow as pow
from .ops.pointwise import reciprocal as reciprocal
from .ops.pointwise import relu as relu
from .ops.pointwise import remainder as remainder
from .ops.pointwise import round as round
from .ops.pointwise import rsqrt as rsqrt
from .ops.pointwise import sigmoid as sigmoid
from .ops.pointwise import sign as sign
from .ops.pointwise import sin as sin
from .ops.pointwise import sqrt as sqrt
from .ops.pointwise import square as square
from .ops.pointwise import tanh as tanh
from .ops.pointwise import trunc as trunc
from .ops.reduce import all as all
from .ops.reduce import amax as amax
from .ops.reduce import amin as amin
from .ops.reduce import any as any
from .ops.reduce import argmax as argmax
from .ops.reduce import argmin as argmin
from .ops.reduce import count_nonzero as count_nonzero
from .ops.reduce import cumprod as cumprod
from .ops.reduce import cumsum as cumsum
from .ops.reduce import log_softmax as log_softmax
from .ops.reduce import logsumexp as logsumexp
from .ops.reduce import max as max
from .ops.reduce import mean as mean
from .ops.reduce import min as min
from .ops.reduce import norm as norm
from .ops.reduce import prod as prod
from .ops.reduce import softmax as softmax
from .ops.reduce import std as std
from .ops.reduce import sum as sum
from .ops.reduce import var as var
from .ops.shape import as_strided as as_strided
from .ops.shape import broadcast_shapes as broadcast_shapes
from .ops.shape import broadcast_tensors as broadcast_tensors
from .ops.shape import broadcast_to as broadcast_to
from .ops.shape import cat as cat
from .ops.shape import chunk as chunk
from .ops.shape import diagonal as diagonal
from .ops.shape import flatten as flatten
from .ops.shape import flip as flip
from .ops.shape import fliplr as fliplr
from .ops.shape import flipud as flipud
from .ops.shape import hstack as hstack
from .ops.shape import movedim as movedim
from .ops.shape import narrow as narrow
from .ops.shape import permute as permute
from .ops.shape import ravel as ravel
from .ops.shape import reshape as reshape
from .ops.shape import select as select
from .ops.shape import split as split
from .ops.shape import squeeze as squeeze
from .ops.shape import stack as stack
from .ops.shape import t as t
from .ops.shape import tile as tile
from .ops.shape import transpose as transpose
from .ops.shape import unbind as unbind
from .ops.shape import unflatten as unflatten
from .ops.shape import unsqueeze as unsqueeze
from .ops.shape import vstack as vstack
from .ops.sorting import argsort as argsort
from .ops.sorting import median as median
from .ops.sorting import sort as sort
from .ops.sorting import topk as topk
from .ops.sorting import unique as unique
from .printing import set_printoptions as set_printoptions
from .random import Generator as Generator
from .random import bernoulli as bernoulli
from .random import default_generator as default_generator
from .random import get_rng_state as get_rng_state
from .random import initial_seed as initial_seed
from .random import manual_seed as manual_seed
from .random import multinomial as multinomial
from .random import normal as normal
from .random import rand as rand
from .random import rand_like as rand_like
from .random import randint as randint
from .random import randint_like as randint_like
from .random import randn as randn
from .random import randn_like as randn_like
from .random import randperm as randperm
from .random import seed as seed
from .random import set_rng_state as set_rng_state
from .serialization import load as load
from .serialization import save as save
from .settings import are_deterministic_algorithms_enabled as are_deterministic_algorithms_enabled
from .settings import get_float32_matmul_precision as get_float32_matmul_precision
from .settings import set_float32_matmul_precision as set_float32_matmul_precision
from .settings import use_deterministic_algorithms as use_deterministic_algorithms
from .size import Size as Size
from .version import __version__ as __version__

# The other names that PyTorch has for them.
bool = bool_
absolute = abs
concat = cat
concatenate = cat
clip = clamp
divide = div
fix = trunc
ger = outer
moveaxis = movedim
row_stack = vstack
true_divide = div
float = float32
double = float64
greater_equal = ge
greater = gt
short = int16
int = int32
long = int64
less_equal = le
less = lt
multiply = mul
not_equal = ne
negative = neg
subtract = sub
swapaxes = transpose
swapdims = transpose
