"""Automatic differentiation: what records, what runs the record in reverse, and how to check it."""

from .._gradmode import enable_grad as enable_grad
from .._gradmode import is_grad_enabled as is_grad_enabled
from .._gradmode import no_grad as no_grad
from .._gradmode import set_grad_enabled as set_grad_enabled
from . import function as function
from . import functional as functional
from .anomaly_mode import detect_anomaly as detect_anomaly
from .anomaly_mode import set_detect_anomaly as set_detect_anomaly
from .differentiate import backward as backward
from .differentiate import grad as grad
from .function import Function as Function
from .grad_mode import inference_mode as inference_mode
from .gradcheck import GradcheckError as GradcheckError
from .gradcheck import gradcheck as gradcheck
from .gradcheck import gradgradcheck as gradgradcheck
