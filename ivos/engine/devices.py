"""The choice of the device on which a network runs."""

import torch

from ivos.runtime.errors import UserError


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device with the given name after checking that it works.

    Args:
        name: A name such as ``cuda`` (or ``gpu``), ``cuda:1``, ``mps`` or ``cpu``. None and ``auto`` select a
            CUDA device if there is one, else an Apple GPU (``mps``) if there is one, else the CPU.

    Raises:
        UserError: The device is not available on this machine.
    """
    if name is None or name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device("cuda" if name == "gpu" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"device={name}: not available ({said})") from error
    return device
