"""Launchers: who runs the cells of a grid, each in a process of its own (or, for debugging, in this one).

They all end in one entry, `zbench.runner.launchers.entry`, which is also the command `zbench cell`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zbench.runner.display.progress import Reporter
    from zbench.runner.launchers.base import Launcher
    from zbench.runner.launchers.settings import Launch


def launcher_of(launch: Launch, reporter: Reporter) -> Launcher:
    """The launcher that some settings ask for.

    Args:
        launch: The settings.
        reporter: Shows progress of cells that run in this process.

    Raises:
        MissingExtraError: A package that it needs is not installed.
        ConfigurationError: What it needs is not on this machine.
    """
    if launch.launcher == "slurm":
        from zbench.runner.launchers.slurm import Slurm

        return Slurm(launch)
    if launch.launcher == "inline":
        from zbench.runner.launchers.inline import Inline

        return Inline(reporter)
    from zbench.runner.launchers.local import Local

    return Local(launch)
