"""Tests of `pccl.torch` and `pccl.np`: programs for version 1 use PyTorch and NumPy under these names."""

import subprocess
import sys
import textwrap

import pytest

BLOCKED = """
    import sys
    for name in {blocked}:
        sys.modules[name] = None  # an import raises ModuleNotFoundError, as if it were not installed
"""


def python(source, blocked=()):
    source = textwrap.dedent(BLOCKED.format(blocked=list(blocked))) + textwrap.dedent(source)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(*modules):
    for module in modules:
        pytest.importorskip(module)


def test_torch_is_pytorch():
    needs("torch")
    python("""
    from pccl import torch
    import torch as real
    for name in real.__all__:
        if name not in torch.__all__:
            assert getattr(torch, name) is getattr(real, name), name
    assert torch.Tensor is real.Tensor and torch.float32 is real.float32 and torch.__version__ == real.__version__
    assert torch.nn is real.nn and torch.cuda is real.cuda and torch.optim is real.optim and torch.backends is real.backends
    assert set(dir(real)) <= set(dir(torch))
    from pccl.torch import nn, device
    model = nn.Sequential(torch.nn.Linear(4, 3), nn.ReLU())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 4)), batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (batch,) in loader:
        loss = model(batch.to(device("cpu"))).sum()
        loss.backward()
        optimizer.step()
    assert isinstance(loss, torch.Tensor) and isinstance(loss, real.Tensor)
    with torch.no_grad():
        assert not model(batch).requires_grad
    compiled = torch.compile(lambda x: torch.relu(x) + 1, backend="eager")
    assert compiled(torch.ones(2)).tolist() == [2, 2]
    try:
        torch.no_such_name
    except AttributeError as error:
        assert "no_such_name" in str(error)
    else:
        raise AssertionError("an unknown name was found")
    assert not hasattr(torch, "__no_such_name__")
    """)


def test_package_names_win_and_shared_ones_do_both():
    needs("torch")
    python("""
    from pccl import torch
    import torch as real
    assert torch.DiLoCo.__module__.startswith("pccl")
    # Decide on each name that both have: add it to pccl/torch/_names.py, or to the differences in docs/start/migration.md.
    assert set(torch.__all__) & set(dir(real)) == {"Graph", "flatten", "unflatten"}
    x = torch.arange(12.0).reshape(3, 2, 2).requires_grad_()
    assert torch.flatten(x, 1).shape == torch.flatten(input=x, start_dim=1).shape == (3, 4)
    assert torch.flatten(x, start_dim=0, end_dim=1).requires_grad and torch.flatten(x).shape == (12,)
    assert torch.unflatten(x.flatten(), 0, (3, 4)).shape == torch.unflatten(input=x.flatten(), dim=0, sizes=(3, 4)).shape == (3, 4)
    row = torch.flatten([x, torch.ones(2)])
    assert row.shape == (14,) and not row.requires_grad
    back = [torch.zeros(3, 2, 2), torch.zeros(2)]
    assert torch.unflatten(row, back) is None and back[1].tolist() == [1, 1] and back[0].sum() == 66
    """)


def test_np_is_numpy():
    needs("numpy")
    python("""
    import pccl, sys
    assert "numpy" not in sys.modules and "torch" not in sys.modules
    from pccl import np
    import numpy
    assert np is numpy is pccl.np
    """)


def test_package_has_torch_without_importing_it():
    needs("torch")
    python("""
    import pccl, sys
    assert "torch" not in sys.modules
    assert pccl.torch.Tensor is sys.modules["torch"].Tensor
    """)


def test_missing_library_is_named_when_it_is_used():
    out = python("""
    import pccl
    from pccl import np, torch
    for use in (lambda: np.zeros(3), lambda: torch.zeros(3), lambda: torch.DiLoCo, lambda: pccl.np.float32):
        for kind in (RuntimeError, ImportError, pccl.MissingModuleError):  # version 1 raises RuntimeError
            try:
                use()
            except kind as error:
                print(error)
            else:
                raise AssertionError("nothing was raised")
    assert not hasattr(torch, "__wrapped__") and not hasattr(np, "__wrapped__")
    values = bytearray(4)
    pccl.TensorInfo(values, "w")
    """, blocked=["numpy", "torch"])
    lines = out.splitlines()
    assert len(lines) == 12
    assert lines[0] == "cannot use numpy.zeros: NumPy is not installed. Install it (pip install numpy), or do without it"
    assert lines[3] == "cannot use torch.zeros: PyTorch is not installed. Install it (pip install torch), or do without it"


def test_import_error_inside_pytorch_is_not_hidden():
    """If PyTorch is installed but its import fails, the error is that of PyTorch."""
    out = python("""
    import os, sys, tempfile
    with tempfile.TemporaryDirectory() as folder:
        open(os.path.join(folder, "torch.py"), "w").write("import a_module_that_is_missing")
        open(os.path.join(folder, "numpy.py"), "w").write("import a_module_that_is_missing")
        sys.path.insert(0, folder)
        import pccl
        for name in ("torch", "np"):
            try:
                getattr(pccl, name)
            except ModuleNotFoundError as error:
                print(error.name)
    """)
    assert out.split() == ["a_module_that_is_missing"] * 2
