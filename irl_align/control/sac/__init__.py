"""Soft actor-critic (Haarnoja et al. 2018), cut for small networks on a CPU.

A step of 100 rows through two layers of 64 costs less than the calls that it is made of. So an
update is one function over tensors that are changed in place (`step`), which `torch.compile` turns
into one call of machine code; without a compiler the same function runs as it stands.

Rewards are computed when a batch is drawn (`batches`), by the reward of that moment: an inverse
learner changes it while the policy learns. Left out: GPUs, n-step returns, prioritised replay.
"""
