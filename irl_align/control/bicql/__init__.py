"""The parts of BiCQL-ML (arXiv 2511.22210); `control.bicql_ml` puts them together.

config                        every key of an experiment
proposals, log_sum_exp        V(s) = log int exp Q(s, a) da: exact for indices, importance
                              sampled in a box, with the effective sample size
critics, step, learner        the lower level: one update of Q, compiled where it pays
advantages, regression        the upper level: r onto the soft advantage
segments                      human preferences over segments, as one more outer term
acting                        no policy network: resampling from exp Q
contraction                   how strongly a round hands on a change of r
"""
