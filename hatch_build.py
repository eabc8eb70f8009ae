"""What a wheel holds beside the Python code: the configurations and the CUDA source, inside the package."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Assets(BuildHookInterface):  # type: ignore[type-arg]
    """Puts them into a wheel; an editable installation finds them in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them."""
        if version == "standard":
            build_data["force_include"] |= {
                "conf": "ivos/conf",
                "kernels/correlation.cu": "ivos/kernels/correlation.cu",
            }
