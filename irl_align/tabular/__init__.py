"""Tabular MDPs: inverse RL where everything can be computed exactly, and every theorem checked.

    mdp, kernels, gridworld, garnet   dynamics, dense or sparse, to 10^5 states and beyond
    planning, occupancy, rollouts     soft planning, discounted occupancies, likelihoods, samples
    rewards, neural                   reward families r(s, a; theta), linear and MLP
    ml_irl, diagnostics, adam         thesis Alg. 1 on core's round loop, measured as in Theorem 2
    estimated, offline                a counted model, offline ML-IRL (Alg. 3), its Lemmas 8 and 9
    bicql                             BiCQL-ML: conservative Q, and the reward that it stands for
    config, experiment                one YAML = a problem, its demonstrations, a run and its table
    maxent                            the dual for linear rewards
    shaping, comparison               rewards up to shaping: distances and regret

Needs scipy (``pip install irl-align[tabular]``); torch only for neural rewards.
"""
