"""Build hook: include the configurations and the CUDA source in the package of a wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Assets(BuildHookInterface):  # type: ignore[type-arg]
    """A hook that adds files to a wheel; an editable installation uses the files in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a standard wheel."""
        if version == "standard":
            build_data["force_include"] |= {
                "conf": "ivos/conf",
                "kernels/correlation.cu": "ivos/kernels/correlation.cu",
            }
