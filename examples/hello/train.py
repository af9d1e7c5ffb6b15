"""Trains a small model with DiLoCo. Start pccl-master, then this program in two or more terminals: train.py [MASTER] [OUTER STEPS]"""

import sys

# [readme]
import torch
import pccl
import pccl.torch

# [/readme]
master = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:48148"
outer_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 100
# [readme]
model = torch.nn.Linear(16, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
communicator = pccl.Communicator(master)

with pccl.torch.DiLoCo(model, communicator=communicator, sync_every=20, min_peers=2) as diloco:
    while diloco.status.outer_steps < outer_steps:
        x = torch.randn(32, 16)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        status = diloco.step()  # call it after every step of the inner optimizer
        if status.outer_step:
            print(f"outer step {status.outer_steps}: {status.world_size} peers, loss {loss.item():.4f}", flush=True)
    diloco.finish()
# [/readme]
communicator.close()
