"""The one kind of error that is the user's to mend, and one that is known by many names."""

from collections.abc import Iterable

_SHOWN = 20  # names in a message


class UserError(ValueError):
    """Bad input or settings: the message names the file or the option and the mend.

    The command-line programs print it as it is, without a traceback; any other error is a defect of ivos.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is out: Python's, PyTorch's on a GPU or on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text.lower())


def listing(names: Iterable[object]) -> str:
    """Join names in order for a message, at most twenty of them."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more
