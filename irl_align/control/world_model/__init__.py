"""A world model for offline learning: an ensemble of Gaussian networks, and what is made of it.

`network` -> `fit` (one batched program) -> `model` (a step, with its uncertainty) -> `rollouts`
(chunks, into a buffer that forgets); `calibration` says what the model is worth, and where.

It predicts states only. A reward head would have to be trained on the environment's own rewards,
which nothing that learns here may see.
"""
