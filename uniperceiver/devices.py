"""Where to compute, and what that is."""

import platform

import torch

from uniperceiver.errors import UserError
from uniperceiver.version import VERSION


def refuse_other_default() -> None:
    """Refuse to train or measure where a program has made another type than float32 torch's default.

    Raises:
        UserError: it has.
    """
    name = str(torch.get_default_dtype())
    if name != "torch.float32":
        raise UserError(
            f"torch's default type is {name}, in which figures would be others; call "
            "torch.set_default_dtype(torch.float32) first"
        )


def device_of(name: str) -> torch.device:
    """Find the device of that name; "auto" is the first accelerator, or the CPU.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r}: {reason}; use device=cpu, or auto") from None


def machine_facts(device: torch.device) -> dict[str, str]:
    """Describe what computes: the device by its own name, the system, and the versions of what matters for figures.

    Args:
        device: an accelerator, or the CPU with as many threads as torch has now.
    """
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} thread{'s' * (threads != 1)}"
    return {
        "device": f"{device}, {name}" if device.type in ("cuda", "cpu") else str(device),
        "system": f"{platform.system()} {platform.machine()}",
        "uniperceiver": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
