"""Finds version 1 in the same folder: both distributions provide the module `pccl`, and each overwrites files of the other."""

from __future__ import annotations

import os


def refuse_version_1(site: str) -> None:
    """Raises ImportError if the distribution `pypccl` has files of the package `pccl` in `site`, the folder that holds this package.

    It may be called by this package alone, before anything else: files of either distribution may be here.
    """
    try:
        names = os.listdir(site)
    except OSError:
        return  # imported from an archive, say
    for name in names:
        lower = name.lower()
        if not lower.startswith(("pypccl-", "pypccl.")) or not lower.endswith((".dist-info", ".egg-info")):
            continue
        # Only now: this module takes longer to import than the rest of the package.
        from importlib.metadata import Distribution

        files = Distribution.at(os.path.join(site, name)).files
        if files is None or any(file.parts[:1] == ("pccl",) for file in files):
            version = name[len("pypccl-") :].rpartition(".")[0]
            raise ImportError(
                f"cannot import pccl: the distribution pypccl {version} (PCCL version 1) is installed in {site}, too, and "
                "provides the same module. Each overwrites files of the other. Run `pip uninstall pypccl pccl`, then install pccl again."
            )
